"""Apache Kafka itself: one KRaft node, broker and controller in one process, from the jars that fetch.sh gets.
Invariant: topics exist only when a test creates them; data and port survive stop and start."""

import base64
import os
import re
import shutil
import socket
import struct
import subprocess
from pathlib import Path
from typing import ClassVar

from parts.part import Part, PartError
from parts.port import HOST, free_port

_ROOT = Path(__file__).resolve().parents[2]
_FETCH = _ROOT / "deploy" / "local" / "kafka" / "fetch.sh"

# A small heap and the C1 compiler only: a test's broker lives for seconds, and its start is what we wait for.
_JAVA = [
    "java",
    "-Xms96m",
    "-Xmx320m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
]

_METADATA, _METADATA_VERSION, _CORRELATION = 3, 4, 7


def libs() -> Path:
    """Where fetch.sh puts the jars of the version that the pom names (they may not be there yet)."""
    pom = _FETCH.with_name("pom.xml").read_text()
    version = re.search(r"<kafka\.version>(.+?)</kafka\.version>", pom)
    if version is None:
        raise ValueError(f"no kafka.version in {_FETCH.with_name('pom.xml')}")
    return Path(os.environ.get("GAUNTLET_PARTS") or _ROOT / ".parts") / "kafka" / version[1] / "libs"


class Kafka(Part):
    """A real broker at `bootstrap`; topics get four partitions unless the test says otherwise."""

    name: ClassVar[str] = "kafka"

    controller_port: int

    @classmethod
    def missing(cls) -> str | None:
        if shutil.which("java") is None:
            return "Kafka needs Java 17 or newer (apt-get install default-jre-headless)"
        if not libs().is_dir():
            return f"Kafka's jars are not in {libs()} (run {_FETCH.relative_to(_ROOT)}, which needs Maven)"
        return None

    @property
    def bootstrap(self) -> str:
        """host:port for a client's bootstrap_servers."""
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """The configuration's spelling: kafka://host:port."""
        return f"kafka://{self.bootstrap}"

    def _choose_ports(self) -> None:
        self.port = free_port()
        self.controller_port = free_port()
        while self.controller_port == self.port:
            self.controller_port = free_port()

    def _prepare(self) -> None:
        shutil.rmtree(self._data, ignore_errors=True)
        self._properties.write_text("".join(f"{key}={value}\n" for key, value in self._settings().items()))
        cluster = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
        # `-t=ID` in one word, since an id may begin with a dash.
        command = self._java("kafka.tools.StorageTool", "format", f"-t={cluster}", "-c", str(self._properties))
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=self.folder)
        if done.returncode != 0:
            raise PartError(f"kafka: formatting the data folder failed:\n{done.stdout}{done.stderr}")

    def _command(self) -> list[str]:
        return self._java("kafka.Kafka", str(self._properties))

    def _answers(self) -> bool:
        """A metadata request; the broker lists itself only once the controller has let it in.

        Kafka protocol, Metadata (key 3) version 4: request [topics: none][allow_auto_topic_creation: no], response
        [throttle_time_ms][brokers …]; every message has its size in front.
        """
        body = struct.pack(">hhih", _METADATA, _METADATA_VERSION, _CORRELATION, -1) + struct.pack(">i?", 0, False)
        with socket.create_connection((HOST, self.port), timeout=2.0) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            with connection.makefile("rb") as answer:
                head = answer.read(16)
        if len(head) < 16:
            return False
        _size, correlation, _throttle, brokers = struct.unpack(">iiii", head)
        return bool(correlation == _CORRELATION and brokers == 1)

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    @staticmethod
    def _java(*arguments: str) -> list[str]:
        return [*_JAVA, "-cp", f"{libs()}/*", *arguments]

    def _settings(self) -> dict[str, str | int]:
        plain, controller = f"PLAINTEXT://{self.bootstrap}", f"CONTROLLER://{HOST}:{self.controller_port}"
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{HOST}:{self.controller_port}",
            "listeners": f"{plain},{controller}",
            "advertised.listeners": plain,
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": str(self._data),
            "num.partitions": 4,
            "auto.create.topics.enable": "false",
            # One node can't hold a second copy, and more than one partition of its own topics only costs start-up.
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            # Tests' groups form at once and may use short sessions.
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
            # After a crash the broker may register again only when its old session has run out; the default is 9 s.
            "broker.session.timeout.ms": 2000,
            "broker.heartbeat.interval.ms": 500,
            # Two cores are shared with everything else that a test starts.
            "num.network.threads": 1,
            "num.io.threads": 2,
            "log.cleaner.dedupe.buffer.size": 8_388_608,
            "log.segment.bytes": 16_777_216,
        }
