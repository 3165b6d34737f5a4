"""What limit.lua answers, on a clock that the proof sets: exact to the
microsecond, and for windows of a day as well as of a second.

A history is a number of nodes that ask the script, as shipped, and lease from
it.  They use what they lease as late as they may, or not at all, and then hand
it back.  Every admission has a moment in Redis's time: that of the script's
answer, or of the use of a lease.  At each it is asked

- that no policy was exceeded by it (never over);
- where something was refused, that a policy had no room for it, if what a
  window admitted counts two slices longer (not stingy, and nothing spent on
  what is refused);
- that the relief told is when a request can first succeed.

What is spent without asking, as nodes do while Redis is away, is charged with
the next question, and counts from then on.
"""

from dataclasses import dataclass, field

from hypothesis import strategies as st

from harness.limits import NEVER, SECOND, Policy

# More requests than any limit here: as many as fit are granted.
ALL = 100000

# A float's worth of a request, where a bucket is filled by a real number.
GRAIN = 1e-4

# What a bucket lacks at most because a request's unit is rounded up: less than
# a millionth of the 900 there are.
LOST = 1e-3

# When histories begin.  A float of the us since 1970 is a quarter of one off.
EPOCH = 1700000000 * SECOND


class Broken(AssertionError):
    """The script answered what it must not."""


# What the nodes do, and how the clock goes on in between.

def steps():
    """Draws what happens next: (what, a part between 0 and 1, numbers)."""
    return st.tuples(
        st.sampled_from(["ask", "ask", "ask", "use", "wait", "lease's end",
                         "lease's end", "window's end", "obey", "spend",
                         "outlive"]),
        st.sampled_from([0.0, 0.001, 0.01, 0.02, 0.1, 0.5, 1.0]),
        st.integers(0, 1),
        st.sampled_from([1, 1, 0, 2, 20, ALL]),
        st.sampled_from([0, 1, 5, 1000]))


# A bucket may not take longer to fill than 30 days.
policies = st.builds(
    Policy,
    requests=st.one_of(st.integers(1, 12), st.integers(8, 900)),
    window=st.sampled_from([1, 60, 3600, 86400]),
    burst=st.one_of(st.just(0), st.just(0), st.integers(1, 12),
                    st.integers(8, 900))).filter(
    lambda p: p.burst * p.window <= 30 * 86400 * p.requests)


@st.composite
def histories(draw):
    return (draw(st.lists(policies, min_size=1, max_size=3)),
            draw(st.sampled_from([1, 1, 2, 5])),
            draw(st.lists(steps(), min_size=20, max_size=100)))


@dataclass
class Lease:
    units: int = 0
    moment: float = 0.0
    life: int = 0


@dataclass
class Book:
    """What one policy admitted, at (moment, units), and what it was charged:
    the same, but leases whole when they were made."""
    policy: Policy
    admitted: list = field(default_factory=list)
    debts: list = field(default_factory=list)
    charged: list = field(default_factory=list)
    paid: float = float("-inf")

    @property
    def window(self):
        return self.policy.window * SECOND

    @property
    def each(self):
        """us in which a bucket gets one token."""
        return self.window / self.policy.requests

    def charge(self, now, units, life=0):
        self.charged.append((now, units))
        self.paid = max(self.paid, now - EPOCH + life) + units * self.each

    def check(self, now, asked):
        """After an admission at now; asked: by the script, which knows what
        was spent without it."""
        spent = self.admitted + (self.debts if asked else [])

        if not self.policy.burst:
            count = sum(u for at, u in spent if now - self.window < at <= now)
            if count > self.policy.requests:
                raise Broken(f"{count} within {self.policy}")
            return

        for start, _ in spent:
            count = sum(u for at, u in spent if start <= at <= now)
            limit = self.policy.burst + (now - start) / self.each
            if count > limit + GRAIN:
                raise Broken(f"{count} where {limit:.4f} are allowed by "
                             f"{self.policy}, in {now - start} us")

    def full(self, now, units):
        """True when there need not be room for so many."""
        if self.policy.burst:
            owed = max(0, self.paid - (now - EPOCH)) / self.each
            return units > self.policy.burst - owed - LOST

        # One slice for what shares an entry with what came later, one for
        # what came while a lease was charged as used at its end.
        late = self.window * 2 / 60
        count = sum(u for at, u in self.charged
                    if at + self.window + late >= now)
        return count + units > self.policy.requests


class History:
    """Nodes that ask a script; run() raises Broken."""

    def __init__(self, script, some, cost):
        self.script = script
        self.cost = cost
        self.policies = some
        self.life = script.life(some)
        self.leases = [Lease(), Lease()]
        self.books = [Book(policy) for policy in some]
        self.relief = None
        self.debt = 0
        self.spendable = min(p.burst or p.requests for p in some)
        self.trace = []

    def run(self, some_steps):
        for what, part, node, n, want in some_steps:
            getattr(self, what.replace("'s ", "_"))(part, node, n, want)

    def note(self, text):
        self.trace.append(f"{self.script.now - EPOCH:>14} us  {text}")

    def ask(self, part, node, n, want):
        now, lease = self.script.now, self.leases[node]
        self.leases[node] = Lease()

        answer = self.script(self.policies, cost=self.cost, n=n, want=want,
                             debt=self.debt, back=lease.units,
                             since=lease.moment, lived=lease.life,
                             life=self.life)
        self.note(f"node {node} asks for {n}, wants {want}, spent "
                  f"{self.debt}, brings back {lease.units}: {answer}")
        spent, self.debt = self.debt, 0

        for i, book in enumerate(self.books):
            # harness.limits halves it for each policy after the first.
            if spent >> i:
                book.charge(now, spent >> i)
                book.debts.append((now, spent >> i))
            book.charge(now, answer.granted * self.cost + answer.lease,
                        self.life if answer.lease else 0)
            if answer.granted:
                book.admitted.append((now, answer.granted * self.cost))
                book.check(now, True)

        if answer.lease:
            self.leases[node] = Lease(answer.lease, answer.moment, self.life)

        self.relief = None
        if answer.granted < n:
            if not any(book.full(now, self.cost) for book in self.books):
                raise Broken("refused, though there is room")
            if answer.relief != NEVER:
                self.relief = now + answer.relief * 1000

        return answer

    def use(self, part, node, n, want):
        lease = self.leases[node]
        units = min(n * self.cost, lease.units) // self.cost * self.cost
        now = self.script.now

        if units == 0 or now > lease.moment + lease.life:
            return

        lease.units -= units
        self.note(f"node {node} uses {units} of its lease")
        for book in self.books:
            book.admitted.append((now, units))
            book.check(now, False)

    def wait(self, part, node, n, want):
        self.script.now += int(part * self.policies[0].window * SECOND)

    def lease_end(self, part, node, n, want):
        """The last moment at which a lease may be used: so much of it is."""
        lease = self.leases[node]
        end = int(lease.moment) + lease.life
        if lease.units and self.script.now < end:
            self.script.now = end
            self.use(part, node, n, want)

    def outlive(self, part, node, n, want):
        """What is owed is paid, all but some, before another leases, who uses
        that at its end; then the first brings back what it has, and asks."""
        self.ask(part, node, 1, max(want, 5))
        self.script.now += int((self.leases[node].units + self.cost + 4 * part)
                               * self.books[0].each)
        self.ask(part, 1 - node, 1, want)
        self.lease_end(part, 1 - node, ALL, want)
        self.ask(part, node, ALL, 0)

    def window_end(self, part, node, n, want):
        """A window after something was admitted somebody asks at once."""
        book = self.books[n % len(self.books)]
        if book.admitted:
            at = book.admitted[int(part * (len(book.admitted) - 1))][0]
            self.script.now = max(self.script.now, at + book.window)
            self.ask(part, node, n, want)

    def obey(self, part, node, n, want):
        """One comes just before the relief it was told, one just then."""
        if self.relief is None or self.debt or self.leases[node].units:
            return

        relief = self.relief
        if relief - 2000 > self.script.now:
            self.script.now = relief - 2000
            if self.ask(part, node, 1, 0).granted:
                raise Broken("admitted before the relief told")

        self.script.now = relief
        if not self.ask(part, node, 1, 0).granted:
            raise Broken("refused after the relief told")

    def spend(self, part, node, n, want):
        units = min(n, self.spendable // 2)
        self.spendable -= units
        self.debt += units
