"""limit.lua and src/core's kg_limit.c, asked the same way.

Script runs the one in Redis, on Redis's clock or on one that stands at .now;
Core runs the other, over states of its own.  Both take policies as Policy and
answer with an Answer.  Arguments and answers of the script are packed by the
module's own code, and unpacked here anew.
"""

import ctypes
import dataclasses
import struct
import subprocess

from .template import ROOT

SECOND = 1000000
NEVER = 4294967295
POLICIES_MAX = 16
STATE_MAX = 1008
SOURCES = sorted((ROOT / "src/core").glob("kg_limit*.c"))


@dataclasses.dataclass(frozen=True)
class Policy:
    """requests a window of seconds; with burst, a bucket."""
    requests: int
    window: int
    burst: int = 0
    dry: bool = False


@dataclasses.dataclass
class Answer:
    granted: int
    dry: int
    refusing: int
    relief: int
    left: list
    reset: list
    lease: int = 0
    moment: float = 0.0


class _Rate(ctypes.Structure):
    _fields_ = [("requests", ctypes.c_uint32), ("window", ctypes.c_uint32)]


class _Policy(ctypes.Structure):
    _fields_ = [("limit", ctypes.c_uint32), ("window", ctypes.c_uint32),
                ("unit", ctypes.c_double), ("pace", ctypes.c_double),
                ("bucket", ctypes.c_uint, 1), ("dry", ctypes.c_uint, 1)]


class _Ask(ctypes.Structure):
    _fields_ = [("cost", ctypes.c_uint32), ("n", ctypes.c_uint32),
                ("want", ctypes.c_uint32), ("back", ctypes.c_uint32),
                ("since", ctypes.c_double), ("lived", ctypes.c_uint32),
                ("life", ctypes.c_uint32), ("owes", ctypes.c_uint32),
                ("debt", ctypes.c_uint32 * POLICIES_MAX)]


class _Stand(ctypes.Structure):
    _fields_ = [("left", ctypes.c_uint32), ("reset", ctypes.c_uint32)]


class _Answer(ctypes.Structure):
    _fields_ = [("granted", ctypes.c_uint32), ("dry", ctypes.c_uint32),
                ("refusing", ctypes.c_uint32), ("relief", ctypes.c_uint32),
                ("lease", ctypes.c_uint32), ("moment", ctypes.c_double),
                ("stand", _Stand * POLICIES_MAX)]

    def read(self, n):
        return Answer(self.granted, self.dry, self.refusing, self.relief,
                      [self.stand[i].left for i in range(n)],
                      [self.stand[i].reset for i in range(n)],
                      self.lease, self.moment)


class _State(ctypes.Structure):
    _fields_ = [("len", ctypes.c_size_t),
                ("data", ctypes.c_ubyte * STATE_MAX)]


def library(folder):
    """src/core's limits, compiled for this process, which what C leaves
    undefined ends; folder is scratch."""
    path = folder / "limit.so"
    subprocess.run(["gcc", "-std=c11", "-O1", "-shared", "-fPIC",
                    "-fsanitize=undefined", "-fsanitize=float-cast-overflow",
                    "-fsanitize-undefined-trap-on-error",
                    f"-I{ROOT / 'src/core'}", *map(str, SOURCES),
                    "-o", str(path)], check=True)
    lib = ctypes.CDLL(str(path))
    for name in ("write_policies", "write_more"):
        getattr(lib, f"kg_limit_{name}").restype = ctypes.c_void_p
    lib.kg_limit_life.restype = ctypes.c_uint32
    lib.kg_limit_decide.argtypes = [ctypes.c_void_p, ctypes.c_void_p,
                                    ctypes.c_size_t, ctypes.c_void_p,
                                    ctypes.c_double, ctypes.c_void_p]
    return lib


class Both:
    """What a question is made of, for the script and for the core."""

    def __init__(self, lib):
        self.lib = lib

    def policies(self, policies):
        made = (_Policy * len(policies))()
        for policy, each in zip(policies, made):
            self.lib.kg_limit_policy(
                ctypes.byref(each),
                ctypes.byref(_Rate(policy.requests, policy.window)),
                ctypes.c_uint32(policy.burst))
            each.dry = policy.dry
        return made

    def life(self, policies):
        """us that a lease of these may live."""
        return min(self.lib.kg_limit_life(ctypes.byref(policy))
                   for policy in self.policies(policies))

    @staticmethod
    def ask(cost=1, n=1, want=0, debt=0, back=0, since=0.0, lived=0, life=0):
        """debt: the first policy's; each other has half of the one before."""
        debts = [debt >> i for i in range(POLICIES_MAX)]
        return _Ask(cost, n, want, back, since, lived, life, debt > 0,
                    (ctypes.c_uint32 * POLICIES_MAX)(*debts))

    def arguments(self, policies, ask):
        """ARGV of the script."""
        made = self.policies(policies)
        buf = (ctypes.c_ubyte * 512)()
        start = ctypes.addressof(buf)
        end = self.lib.kg_limit_write_policies(
            ctypes.c_void_p(start), ctypes.c_uint32(ask.cost), made,
            ctypes.c_size_t(len(made)))
        args = [bytes(buf[:end - start])]
        end = self.lib.kg_limit_write_more(ctypes.c_void_p(start),
                                           ctypes.byref(ask),
                                           ctypes.c_size_t(len(made)))
        return args + ([bytes(buf[:end - start])] if end > start else [])


class Script(Both):
    """limit.lua, on Redis's clock or on one that stands at .now (us)."""

    def __init__(self, redis, lib, text, clock=False):
        super().__init__(lib)
        self.client = redis.client
        self.client.flushall()
        self.now = None

        if clock:
            assert text.count("redis.call('TIME')") == 1
            text = text.replace("redis.call('TIME')",
                                "redis.call('MGET', 'clock:s', 'clock:us')")
            self.now = 1700000000 * SECOND

        self.script = self.client.register_script(text)

    def __call__(self, policies, keys=None, **asked):
        return self.raw(self.arguments(policies, self.ask(**asked)),
                        keys or self.keys(len(policies)))

    @staticmethod
    def keys(n):
        return [f"limit:{i}" for i in range(n)]

    def raw(self, args, keys):
        if self.now is not None:
            self.client.mset({"clock:s": self.now // SECOND,
                              "clock:us": self.now % SECOND})

        reply = self.script(keys=keys, args=args)
        granted, dry, refusing, relief = struct.unpack_from("<IHBI", reply)
        n = len(keys)
        stands = struct.unpack_from(f"<{2 * n}I", reply, 11)
        answer = Answer(granted, dry, refusing, relief, list(stands[::2]),
                        list(stands[1::2]))
        rest = reply[11 + 8 * n:]
        if rest:
            answer.lease, answer.moment = struct.unpack("<Id", rest)
        return answer

    def state(self, i=0):
        return self.client.get(f"limit:{i}") or b""


class Core(Both):
    """kg_limit.c, over states of its own, at .now (us)."""

    def __init__(self, lib, n):
        super().__init__(lib)
        self.now = 1700000000 * SECOND
        self.states = (_State * n)()

    def __call__(self, policies, **asked):
        """The answer, or None for a malformed state."""
        answer = _Answer()
        ask = self.ask(**asked)
        rc = self.lib.kg_limit_decide(
            self.policies(policies), self.states, len(policies),
            ctypes.byref(ask), float(self.now), ctypes.byref(answer))
        return answer.read(len(policies)) if rc == 0 else None

    def state(self, i=0):
        return bytes(self.states[i].data[:self.states[i].len])
