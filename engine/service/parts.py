"""The parts of an engine: each does one kind of work, and ``Engine`` gives it what callers ask for."""

from __future__ import annotations

from ..events.replay_types import RecordedMode
from ..streams.follow import Follower
from ..tools.registry import Tools
from ..turns.client_start import ClientStarter
from ..turns.supervisor import Supervisor
from .answers import Answers
from .conversations import Conversations
from .counting import Counts
from .discovery import Discovery
from .drop_in import DropIn
from .erasure import Erasures
from .events import Events
from .evidence import Evidence
from .export import Exports
from .families import Families
from .forks import Forks
from .messages import Messages
from .metadata import Metadata
from .names import Names
from .pins import Pins
from .prompts import Prompts
from .replay.asking import Asker
from .replay.forced import Forced
from .replay.free import Free
from .replay.reading import ReplayReader
from .replay.recorded_mode import Recorded
from .replay.reporting import Reporter
from .replay.run import Doer
from .replay.runner import Replays
from .salvage import Salvage
from .serving import Serving
from .sessions import Sessions
from .signed import Signed
from .suites import Suites
from .transcript.reading import Transcripts
from .turns import Turns
from .unstored import Unstored
from .windows import Windows


class Parts:
    """The parts of one engine. ``default_model`` is that of a session that names none; ``keys``: of the hashes of
    clients' histories, and of their requests.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        tools: Tools,
        default_model: str,
        evidence: Evidence,
        keys: tuple[bytes, bytes] = (b"", b""),
    ) -> None:
        runtime = supervisor.runtime
        store, clock, settings, providers = runtime.store, runtime.clock, runtime.settings, runtime.providers
        self.store = store
        self.clock = clock
        self.settings = settings
        self.providers = providers
        self.default_model = default_model
        self.supervisor = supervisor
        self.follower = Follower(store, settings, find=supervisor.find, running=supervisor.running)
        self.names = Names(providers, tools, default_model)
        self.sessions = Sessions(store, clock, self.names, settings)
        self.forks = Forks(store, clock, settings)
        self.families = Families(store)
        self.messages = Messages(store, clock, settings)
        self.metadata = Metadata(store, clock, settings)
        self.pins = Pins(store, clock, settings)
        self.events = Events(store, self.follower, settings)
        self.turns = Turns(supervisor, self.follower, tools)
        self.drop_in = DropIn(ClientStarter(supervisor, tools), self.sessions, self.turns, keys)
        self.answers = Answers(store, clock, settings, keys[0])
        self.conversations = Conversations(store, clock, settings, self.sessions, self.messages)
        self.signed = Signed(store, keys[0])
        self.unstored = Unstored(store, clock, settings)
        self.windows = Windows(store, providers, settings)
        self.prompts = Prompts(store, providers)
        self.counts = Counts(store, providers, settings)
        self.discovery = Discovery(store, providers, tools, clock)
        self.evidence = evidence
        self.erasures = Erasures(store, clock)
        self.exports = Exports(store, self.sessions, self.messages, evidence)
        asker = Asker(supervisor, tools)
        modes: dict[RecordedMode, Doer] = {
            "recorded": Recorded(store, providers, clock),
            "forced": Forced(asker),
            "free": Free(asker, self.sessions, self.messages, self.events, settings),
        }
        self.replay_reader = ReplayReader(store, settings)
        self.replays = Replays(store, clock, providers, tools, modes, self.replay_reader)
        self.suites = Suites(store, clock, settings)
        self.replay_reports = Reporter(store, providers, self.replay_reader)
        self.transcripts = Transcripts(clock, self.sessions, self.events, evidence)
        self.salvage = Salvage(self.messages, self.events)
        self.serving = Serving(supervisor, self.follower, self.turns, self.replays, self.unstored, default_model)

    async def close(self) -> None:
        """End the work that no caller waits for."""
        await self.replays.close()
        await self.unstored.close()
