"""The page on which a person has their browser shown their pages, and the service worker that shows them.

Push needs a script: without one the page says so. Style and scripts are named in the Content-Security-Policy, so nothing else runs.
"""

import base64
import hashlib
import json
from html import escape
from typing import Final

from tocsin_notify.app.contacts.devices import Owner
from tocsin_notify.http.answer_page import HEADERS, document, short

PATH: Final = "/d/"
WORKER: Final = "/push.js"
_SCRIPT: Final = """
(() => {
  const text = JSON.parse(document.getElementById('text').textContent);
  const says = document.getElementById('says'), ask = document.getElementById('ask');
  const say = (words, wrong) => { says.textContent = words; says.className = wrong ? 'wrong' : 'said'; says.hidden = false; };
  const key = Uint8Array.from(atob(text.key.replace(/-/g, '+').replace(/_/g, '/')), c => c.charCodeAt(0));
  const post = async (path, body) => {
    const answer = await fetch(path, {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(body)});
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.error);
    return told;
  };
  if (!('serviceWorker' in navigator && 'PushManager' in window && 'Notification' in window)) { say(text.unable, true); return; }
  ask.hidden = false;
  ask.addEventListener('click', async () => {
    ask.disabled = true;
    try {
      if (await Notification.requestPermission() !== 'granted') { say(text.refused, true); return; }
      const worker = await navigator.serviceWorker.register(text.worker);
      await navigator.serviceWorker.ready;
      const code = new Promise(come => navigator.serviceWorker.addEventListener('message', e => e.data.code && come(e.data.code)));
      navigator.serviceWorker.startMessages();
      const old = await worker.pushManager.getSubscription();
      if (old) await old.unsubscribe();
      const subscription = await worker.pushManager.subscribe({userVisibleOnly: true, applicationServerKey: key});
      const name = (navigator.userAgentData && navigator.userAgentData.platform || navigator.platform || '').slice(0, 60);
      const {method} = await post(location.pathname, {subscription: JSON.stringify(subscription), name});
      say(text.waits);
      await post(location.pathname, {method, code: await code});
      say(text.done);
      ask.hidden = true;
    } catch (error) { say(text.failed + ' ' + error.message, true); } finally { ask.disabled = false; }
  });
})();
"""
_HASH: Final = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
DEVICE_HEADERS: Final = {
    **HEADERS,
    "Content-Security-Policy": (
        f"{HEADERS['Content-Security-Policy']}; script-src 'sha256-{_HASH}'; connect-src 'self'; worker-src 'self'"
    ),
}
WORKER_SCRIPT: Final = """
self.addEventListener('push', event => event.waitUntil((async () => {
  const page = event.data.json();
  await self.registration.showNotification(page.title, {
    body: page.body, tag: page.tag, data: page, renotify: true,
    requireInteraction: page.loudness === 'wakes' || page.loudness === 'page', silent: page.loudness === 'news',
    actions: page.buttons.map((button, place) => ({action: String(place), title: button.label})),
  });
  if (page.code) {
    const open = await self.clients.matchAll({includeUncontrolled: true, type: 'window'});
    for (const each of open) each.postMessage({code: page.code});
  }
  if (page.receipt) await fetch(page.receipt, {method: 'POST'});
})()));
self.addEventListener('notificationclick', event => event.waitUntil((async () => {
  const page = event.notification.data, button = event.action && page.buttons[Number(event.action)];
  event.notification.close();
  if (!button) { if (page.link) await self.clients.openWindow(page.link); return; }
  let told;
  try { told = await (await fetch(button.url, {method: 'POST'})).text(); } catch (error) { told = page.failed; }
  await self.registration.showNotification(told, {body: page.title, tag: page.tag, data: {...page, buttons: []}});
})()));
self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', event => event.waitUntil(self.clients.claim()));
"""


def device_page(owner: Owner, public_key: str) -> str:
    """For the person to whom the link was sent. `public_key`: what the browser subscribes with."""
    words = owner.words
    text = {
        "key": public_key,
        "worker": f"..{WORKER}",
        "unable": words.device_unable,
        "refused": words.device_refused,
        "waits": words.device_waits,
        "done": words.device_done,
        "failed": words.device_failed,
    }
    # A `<` in the texts could end the element.
    data = json.dumps(text).replace("<", "\\u003c")
    parts = [
        f'<p class="who">{words.pages_for} <strong>{escape(short(owner.user))}</strong></p>',
        f"<h1>{words.device_title}</h1>",
        f"<p>{words.device_why}</p>",
        '<p id="says" role="status" hidden></p>',
        f"<noscript><p class='wrong'>{words.device_unable}</p></noscript>",
        f'<button class="acknowledge" id="ask" hidden>{words.device_ask}</button>',
        f'<script type="application/json" id="text">{data}</script><script>{_SCRIPT}</script>',
    ]
    return document(words.device_title, parts, words)
