"""A disk without room: every answer says 507, readiness says so too, and all goes on when there is room again."""

import errno
import os
import sqlite3

import pytest

from manent.api.routes import export
from manent.engine.log.sqlite.connection import PAGE_BYTES
from tests.api.conftest import settings_on
from tests.api.harness import in_thread, problem
from tests.crash.failing import failing_disk, sqlite

FRAME_BYTES = 24 + PAGE_BYTES
"""A page in SQLite's write-ahead log."""


@pytest.fixture(scope="module")
def disk_can_fail():
    try:
        sqlite()
    except (OSError, AttributeError) as error:
        pytest.skip(f"NOT SHOWN: what a full disk does. The functions of this Python's SQLite are hidden: {error}")


@pytest.mark.usefixtures("disk_can_fail")
@pytest.mark.parametrize("frames", [0, 1, 3, 6, 30])
def test_readiness_is_what_a_write_would_be(tmp_path, frames):
    """However little room is left: from the first write that is refused for want of it, the server is not ready."""
    with (
        failing_disk(tmp_path / "manent.db") as disk,
        in_thread(settings_on(tmp_path)) as server,
        server.client() as client,
    ):
        path = client.post("/api/sessions", json={}).headers["location"] + "/messages"
        assert client.post(path, json={"content": "x"}).status_code == 201
        assert client.get("/readyz").status_code == 200
        disk.leave(frames * FRAME_BYTES)
        while client.post(path, json={"content": "x"}).status_code == 201:
            pass
        for _ in range(5):
            assert client.get("/readyz").status_code == 503
            problem(client.post(path, json={"content": "x"}), 507, "store_full")
        assert client.get(path).status_code == 200
        disk.leave(None)
        assert client.get("/readyz").status_code == 200
        assert client.post(path, json={"content": "x"}).status_code == 201


def test_readiness_leaves_nothing_behind(server, client, unchanged):
    """Trying to write leaves no row in any table, and the file grows by no more than once."""

    def look():
        connection = sqlite3.connect(f"file:{server.database}?mode=ro", uri=True)
        rows = connection.execute("SELECT count(*) FROM journal WHERE kind = 'probe'").fetchone()[0]
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.close()
        return rows, pages

    client.get("/readyz")
    before = look()
    for _ in range(20):
        assert client.get("/readyz").status_code == 200
    assert look() == before
    assert before[0] == 0


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_checkpoint_without_room(client, session, monkeypatch):
    """The file beside the database is on a disk too: 507, and no word of where it lies."""
    client.post(f"/api/sessions/{session}/messages", json={"content": "x"})
    monkeypatch.setattr(os, "pwrite", full)
    refused = client.post("/api/log/checkpoint")
    assert "/" not in problem(refused, 507, "store_full")["detail"]
    version = client.get(f"/api/sessions/{session}").json()["version"]
    problem(client.get(f"/api/sessions/{session}/events/{version}/proof"), 507, "store_full")
    problem(client.get(f"/api/sessions/{session}/export"), 507, "store_full")
    monkeypatch.undo()
    assert client.post("/api/log/checkpoint").status_code == 200


class FullFile:
    """A temporary file on a disk without room."""

    def __init__(self, _):
        self.write = full

    def tell(self):
        return 0

    def seek(self, *_):
        return 0

    def flush(self):
        """Nothing waits."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Nothing was kept."""


def test_an_export_without_room(client, session, monkeypatch):
    """What a bundle waits in until it is sent is on a disk too."""
    client.post(f"/api/sessions/{session}/messages", json={"content": "x"})
    monkeypatch.setattr(export.tempfile, "SpooledTemporaryFile", FullFile)
    problem(client.get(f"/api/sessions/{session}/export"), 507, "store_full")
    monkeypatch.undo()
    assert client.get(f"/api/sessions/{session}/export").status_code == 200
