"""Amazon SNS: subscribes by itself, believes what is signed, and takes CloudWatch alarms and everything else."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tocsin.ingest.v1.alert_pb2 import ALERT_STATE_FIRING, ALERT_STATE_RESOLVED
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL, SEVERITY_WARNING
from tocsin_ingest.http.fetcher import Fetcher
from tocsin_kit.errors import TocsinError
from tocsin_testkit.busy import until

from tests.contract.ingest.amazon import HOST, TOPIC, Amazon, amazon_hosts
from tests.contract.ingest.posting import Sender, sender

__all__ = ["sender"]


@pytest.fixture(scope="module")
async def amazon(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Amazon]:
    async with amazon_hosts(tmp_path_factory.mktemp("amazon")) as hosts:
        yield hosts


def alarm(state: str, **fields: Any) -> str:
    """As CloudWatch writes it."""
    return json.dumps(
        {
            "AlarmName": "cpu-high",
            "AlarmDescription": "CPU of the shop",
            "AWSAccountId": "123456789012",
            "NewStateValue": state,
            "NewStateReason": "Threshold Crossed: 1 datapoint [97.3] was greater than the threshold (90.0).",
            "StateChangeTime": "2026-03-14T03:07:11.953+0000",
            "Region": "EU (Ireland)",
            "AlarmArn": "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:cpu-high",
            "OldStateValue": "OK",
            "Trigger": {
                "MetricName": "CPUUtilization",
                "Namespace": "AWS/EC2",
                "Dimensions": [{"value": "i-0123456789abcdef0", "name": "InstanceId"}],
            },
            **fields,
        }
    )


async def test_a_subscription_is_confirmed_by_itself(sender: Sender, amazon: Amazon) -> None:
    url = f"https://{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=abc"
    asked = amazon.message("SubscriptionConfirmation", Message="You have chosen", Token="abc", SubscribeURL=url)
    # As SNS posts it: the key at the end of the path, and a body that is said to be text.
    path = f"/v1/sns/{sender.key}"
    answer = await sender.post(path, json.dumps(asked).encode(), **{"Content-Type": "text/plain", "Authorization": ""})
    assert answer == (200, {"status": "success", "accepted": 0})
    assert [each for each in amazon.asked if "ConfirmSubscription" in each]
    assert await sender.alerts() == []


@pytest.mark.parametrize("version", ["1", "2"])
async def test_an_alarm_fires_once_and_is_over(sender: Sender, amazon: Amazon, version: str) -> None:
    fires = amazon.message("Notification", version, Subject="ALARM: cpu-high", Message=alarm("ALARM"))
    for _ in range(2):
        assert (await sender.post("/v1/sns", fires))[0] == 200
    [taken] = await sender.alerts()
    assert (taken.count, taken.state, taken.severity) == (1, ALERT_STATE_FIRING, SEVERITY_CRITICAL)
    assert taken.dedup_key == "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:cpu-high"
    assert taken.summary == "cpu-high: CPU of the shop"
    assert dict(taken.labels) == {
        "alarm": "cpu-high",
        "account": "123456789012",
        "region": "EU (Ireland)",
        "namespace": "AWS/EC2",
        "metric": "CPUUtilization",
        "InstanceId": "i-0123456789abcdef0",
    }
    assert taken.client_time.ToJsonString() == "2026-03-14T03:07:11.953Z"
    over = amazon.message("Notification", version, Message=alarm("OK"))
    assert (await sender.post("/v1/sns", over))[0] == 200
    assert [each.state for each in await sender.alerts()] == [ALERT_STATE_RESOLVED]
    # The certificate is asked for once.
    assert sum(each.endswith("abcdef.pem") for each in amazon.asked) == 1


async def test_an_alarm_without_data_is_a_warning(sender: Sender, amazon: Amazon) -> None:
    assert (await sender.post("/v1/sns", amazon.message("Notification", Message=alarm("INSUFFICIENT_DATA"))))[0] == 200
    assert [each.severity for each in await sender.alerts()] == [SEVERITY_WARNING]
    status, answer = await sender.post("/v1/sns", amazon.message("Notification", Message=alarm("ODD")))
    assert (status, "must be one of ALARM" in answer["errors"][0]["message"]) == (400, True)


async def test_any_other_message_is_an_alert_by_its_subject(sender: Sender, amazon: Amazon) -> None:
    for fields in (
        {"Subject": "Backup failed", "Message": "on db-1"},
        {"Subject": "Backup failed", "Message": "on db-2"},
        {"Message": '{"detail-type": "ECS Task State Change", "detail": {}}'},
        {"Message": "first line\nsecond"},
        {"Message": "{no json"},
    ):
        assert (await sender.post("/v1/sns", amazon.message("Notification", **fields)))[0] == 200
    counts = {each.summary: each.count for each in await sender.alerts()}
    assert counts == {"Backup failed": 2, "ECS Task State Change": 1, "first line": 1, "{no json": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"Message": "another one"},
        {"Subject": "that was not signed"},
        {"Signature": "AAAA"},
        {"Signature": "!"},
        {"SignatureVersion": "3"},
        {"Type": "Odd"},
        {"SigningCertURL": f"https://{HOST}/SimpleNotificationService-0.txt"},
        {"SigningCertURL": f"https://{HOST}/?x=/SimpleNotificationService-0.pem"},
        {"SigningCertURL": f"http://{HOST}/SimpleNotificationService-0.pem"},
        {"SigningCertURL": f"https://{HOST}:8443/SimpleNotificationService-0.pem"},
        {"SigningCertURL": f"https://me@{HOST}/SimpleNotificationService-0.pem"},
        {"SigningCertURL": "https://sns.eu-west-1.amazonaws.com.example.com/SimpleNotificationService-0.pem"},
        {"SigningCertURL": "https://127.0.0.1/SimpleNotificationService-0.pem"},
        {"SigningCertURL": "https://[::1/SimpleNotificationService-0.pem"},
        {"SigningCertURL": "https://s3.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem"},
        {"SigningCertURL": None},
    ],
)
async def test_what_sns_has_not_signed_is_refused_and_no_other_host_is_asked(
    sender: Sender, amazon: Amazon, change: dict[str, Any]
) -> None:
    before = [each for each in amazon.asked if not each.endswith("abcdef.pem")]
    body = amazon.message("Notification", Message="one") | change
    status, answer = await sender.post("/v1/sns", body)
    assert (status, answer["error"]["reason"]) == (400, "INVALID_FIELD")
    assert answer["error"]["fields"][0]["field"] in ("Signature", "SignatureVersion", "Type", "SigningCertURL")
    assert [each for each in amazon.asked if not each.endswith("abcdef.pem")] == before
    assert [each.dedup_key for each in await sender.alerts()] == ["tocsin-refused-alerts"]


async def test_a_confirmation_leads_nowhere_but_to_sns(sender: Sender, amazon: Amazon) -> None:
    body = amazon.message("SubscriptionConfirmation", Message="m", Token="t", SubscribeURL="https://10.0.0.1/?a=b")
    status, answer = await sender.post("/v1/sns", body)
    assert (status, answer["error"]["fields"][0]["field"]) == (400, "SubscribeURL")


async def test_while_the_certificate_cannot_be_had_the_message_comes_again(sender: Sender, amazon: Amazon) -> None:
    body = amazon.message("Notification", Message="m")
    body["SigningCertURL"] = f"https://{HOST}/SimpleNotificationService-another.pem"
    amazon.away = True
    assert (await sender.post("/v1/sns", body))[0] == 503
    amazon.away = False
    assert (await sender.post("/v1/sns", body))[0] == 200
    assert [each.summary for each in await sender.alerts()] == ["m"]


@pytest.mark.parametrize(
    ("status", "answered"), [(403, 400), (404, 400), (410, 400), (429, 503), (408, 503), (500, 503)]
)
async def test_what_amazon_refuses_is_refused_and_people_hear_of_it(
    sender: Sender, amazon: Amazon, status: int, answered: int
) -> None:
    """A subscription that is too old, or a certificate that never existed: it would be answered 503 for ever, unnoticed."""
    url = f"https://{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token={status}"
    asked = amazon.message("SubscriptionConfirmation", Message="You have chosen", Token=str(status), SubscribeURL=url)
    unknown = f"https://{HOST}/SimpleNotificationService-{status}.pem"
    try:
        await sender.post("/v1/sns", amazon.message("Notification", Message="m"))  # the certificate is known by now
        amazon.refuses = status
        assert (await sender.post("/v1/sns", asked))[0] == answered
        assert (await sender.post("/v1/sns", {**asked, "SigningCertURL": unknown}))[0] == answered
    finally:
        amazon.refuses = 0
    told = [each.summary for each in await sender.alerts() if each.dedup_key == "tocsin-refused-alerts"]
    assert [f"answered {status}" in each for each in told] == [True] * (answered == 400)


async def test_a_tenant_whose_hosts_hang_waits_alone(amazon: Amazon) -> None:
    """Each that waits holds a connection and a body, of which all tenants share a number."""
    fetcher = Fetcher()
    slow = [fetcher.get(f"https://{HOST}/slow-{number}.pem", "SigningCertURL", "one") for number in range(50)]
    waiting = asyncio.gather(*slow, return_exceptions=True)
    try:
        await until(lambda: len([each for each in amazon.asked if "slow" in each]) == 2)
        assert await fetcher.get(f"https://{HOST}/quick.pem", "SigningCertURL", "other")
    finally:
        amazon.hold.set()
    answers = await waiting
    assert len([each for each in answers if isinstance(each, bytes)]) == 2
    assert {each.reason_name for each in answers if isinstance(each, TocsinError)} == {"SERVICE_UNAVAILABLE"}
    await fetcher.close()
