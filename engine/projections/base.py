"""What a projection is: what is true now, folded from events, in tables that can be dropped and built again.

Inline projections are written in the append's own transaction, so that they are never behind. Folding is pure
(``session.py``, ``turn.py``); ``catalog.py`` turns it into rows, and keeps the store's ``Projector`` contract.
Rebuilding folds the whole log again and gives the same bytes: nothing in a row may come from anywhere but the
event and the state before it.
"""

from engine.store.base import Projector, RecordedEvent

__all__ = ["Projector", "RecordedEvent"]
