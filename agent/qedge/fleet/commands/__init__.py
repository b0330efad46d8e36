"""Commands of fleet operators: checked, kept, carried out once, and told of.

A request comes in (`intake`): size, envelope, address and age first, which cost microseconds, then signatures, then
the rules (`rules`): time, role, a second person, arguments, room. It is in the journal (`journal`, `rows`) when the
broker is thanked. A lane (`lanes`) runs one command at a time (`running`): *starting* is told and taken by the broker,
*running* may have changed something, and its end is written down before it is told (`telling`). Each of these waits has
a time limit and can be cancelled (`cancelling`).

At the start the journal says what was under way: what waited waits on, what was starting begins, and what was running
is begun anew, looked at or has failed, as its kind says (`ports.AfterCrash`).

A kind of command is an `Executor` (`ports`); those of every node stand in `kinds`, their list in
`qedge.daemon.fleet.commands`.
"""
