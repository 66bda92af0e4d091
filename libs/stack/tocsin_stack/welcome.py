"""What `make up` prints once everything is healthy."""

from typing import Final

from tocsin_stack import tokens
from tocsin_stack.stack import Stack

DEMO_ORG: Final = "demo"


def welcome(stack: Stack, seconds: float) -> str:
    """Addresses, demo tokens and the first lines to try, for a terminal."""
    addresses = [
        f"  {process.name:<14} gRPC {process.grpc_address:<18} HTTP {process.http_url}"
        for replicas in stack.services.values()
        for process in replicas
    ]
    if stack.https is not None:
        addresses += [
            f"  {'alerts by https':<14} {stack.https.url}; clients trust it by {stack.https.files.authority}:",
            f"    curl --cacert {stack.https.files.authority} {stack.https.url}/healthz",
        ]
    roles = (
        ("SENDER", "a monitoring system", tokens.SENDER),
        ("RESPONDER", "a person on call", tokens.RESPONDER),
        ("ADMIN", "the one who sets things up", tokens.ADMINISTRATOR),
    )
    exports = [
        f"  export {name}={tokens.mint(stack.plan.signing_keys, DEMO_ORG, scopes, subject=f'users/{name.lower()}')}   # {who}"
        for name, who, scopes in roles
    ]
    grpc = {name: replicas[0].grpc_address for name, replicas in stack.services.items()}
    lines = [
        f"Tocsin is up after {seconds:.1f} s. Ctrl-C stops it; its data and logs are in {stack.data_dir}",
        *addresses,
        "",
        f'Demo tokens of the tenant "{DEMO_ORG}", good for a day:',
        *exports,
        "",
        "Try (README.md, `Your first page`, makes a user and a policy; before that an alert pages no one):",
        """  export PATH="$PWD/.venv/bin:$PATH"   # grpcurl is there, where it has a build for this machine""",
        f"  grpcurl -plaintext {grpc.get('ingest')} list",
        f"  grpcurl -plaintext {grpc.get('ingest')} describe tocsin.ingest.v1.AlertService",
        f"""  grpcurl -plaintext -H "authorization: Bearer $SENDER" -d '{{"alert": {{"summary": "disk full", """
        f""""source": "db-1"}}}}' {grpc.get("ingest")} tocsin.ingest.v1.AlertService/SendAlert""",
        f"""  grpcurl -plaintext -H "authorization: Bearer $RESPONDER" {grpc.get("escalation")} """
        "tocsin.escalation.v1.IncidentService/ListIncidents",
        f"""  grpcurl -plaintext -H "authorization: Bearer $ADMIN" {grpc.get("notify")} """
        "tocsin.notify.v1.NotificationService/ListNotifications",
        "",
    ]
    return "\n".join(lines)
