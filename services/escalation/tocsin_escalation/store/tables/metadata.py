"""What all tables of escalation belong to."""

from typing import Final

from sqlalchemy import MetaData

METADATA: Final = MetaData()
