"""A job without an organisation belongs to no tenant: its reader refuses it, and the stream keeps it as a dead letter."""

from collections.abc import Callable
from uuid import uuid4

import pytest
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin_kit.errors import TocsinError
from tocsin_kit.rpc.validation import validate
from tocsin_notify.app.pages.jobs import KINDS, read_job, read_kept
from tocsin_notify.domain.page import ONE_WAY, PAGES, Kind
from tocsin_notify.store.pages.pages import NewPage

HANDED_OVER = [type for type, kind in KINDS.items() if kind in PAGES | ONE_WAY - {Kind.DIGEST}]


def taken(job: pb.NotificationJob, read: Callable[[pb.NotificationJob], NewPage]) -> NewPage:
    """As the stream and SubmitNotifications take it."""
    validate(job)
    return read(job)


@pytest.mark.parametrize("org_id", ["", "*", "a\0b"])
@pytest.mark.parametrize(
    ("type", "read"), [*((type, read_job) for type in HANDED_OVER), *((type, read_kept) for type in KINDS)]
)
def test_no_kind_of_job_is_read_without_its_organisation(
    type: pb.NotificationType.ValueType, read: Callable[[pb.NotificationJob], NewPage], org_id: str
) -> None:
    job = pb.NotificationJob(
        page=f"pages/{uuid4()}",
        org_id=org_id,
        type=type,
        user="users/ana",
        incident=f"incidents/{uuid4()}",
        text="Lunch.",
    )
    with pytest.raises(TocsinError) as refused:
        taken(job, read)
    assert {violation.field for violation in refused.value.fields} == {"org_id"}
    job.org_id = "acme"
    if type in HANDED_OVER:
        assert taken(job, read).org_id == "acme"
