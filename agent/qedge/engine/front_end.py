"""Program text of any language the node knows to a template."""

from __future__ import annotations

import re
from typing import Final

from qedge.base.errors import QedgeError
from qedge.engine.cirq_json.parser import parse as parse_cirq
from qedge.engine.qasm.model import ParseLimits
from qedge.engine.qasm.template import Template
from qedge.engine.qasm2.parser import parse as parse_2
from qedge.engine.qasm3.parser import parse as parse_3

_JSON: Final = re.compile(r"\s*+[{\[]")
_HEADER_3: Final = re.compile(r"(?:\s++|//[^\n]*+|/\*(?:[^*]++|\*(?!/))*+\*/)*+OPENQASM\s++3")


def parse(text: str, limits: ParseLimits) -> Template:
    """Parse OpenQASM 2 or 3, as the header says, or cirq JSON; raises `QedgeError` with a code `circuit.*`.

    Its details say where: `line` and `column`, in a circuit of cirq `moment` and `operation`.
    """
    if len(text if text.isascii() else text.encode(errors="replace")) > limits.max_text_bytes:
        raise QedgeError(
            "circuit.too_large",
            f"expected at most {limits.max_text_bytes} bytes of program text, found more",
            limit=limits.max_text_bytes,
            line=1,
            column=1,
        )
    if _JSON.match(text):
        return parse_cirq(text, limits)
    return parse_3(text, limits) if _HEADER_3.match(text) else parse_2(text, limits)
