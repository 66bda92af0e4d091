"""What all tables of ingest belong to."""

from typing import Final

from sqlalchemy import MetaData

METADATA: Final = MetaData()
