r"""Arrivals that come in bursts, and what they do to delays: the heavy-traffic factor.

The index of dispersion of counts, I(t) = Var N(t) / E N(t), is 1 at every t for Poisson arrivals. What a queue feels is
its value over the time in which the queue forgets. A stream is told by

    index    I, its limit as t grows: of a renewal process the squared coefficient of variation of its gaps
    seconds  T_c, the time in which its rate forgets where it was; 0 where gaps are independent

and a queue that returns to its mean like e^{-t/tau} feels

    I_tau = 1 + (I - 1) / (1 + T_c / tau)

(exact for a linear queue and a rate whose correlation falls like e^{-t/T_c}: the variance of its response to such
noise, over that to white noise of the same spectrum at 0). Queues then grow like (c_a^2 + c_s^2)/(1 + c_s^2) with
c_a^2 = I_tau (Kingman 1961; Whitt 1983; where work is shared Gromoll 2004). See mathematics, section 15.4.
"""

from __future__ import annotations

from dataclasses import dataclass

from fluid.errors import real


@dataclass(frozen=True)
class Dispersion:
    """The `index` of dispersion of arrivals over long times, and the `seconds` for which their rate remembers.

    Raises InputError unless the index is positive and the seconds nonnegative.

    >>> Dispersion(4.0, 10.0).over(30.0)
    3.25
    """

    index: float = 1.0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", real("index", self.index, "dispersion"))
        object.__setattr__(self, "seconds", real("seconds", self.seconds, "dispersion", unit="seconds", zero=True))

    def over(self, relaxation: float) -> float:
        """Return the index that a queue feels which returns to its mean within so many seconds."""
        return 1 + (self.index - 1) / (1 + self.seconds / relaxation) if relaxation > 0 else 1.0


POISSON_DISPERSION = Dispersion()
