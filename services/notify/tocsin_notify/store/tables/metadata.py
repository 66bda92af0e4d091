"""What all tables of notify belong to."""

from typing import Final

from sqlalchemy import MetaData

METADATA: Final = MetaData()
