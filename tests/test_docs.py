"""The example of docs/integration.md runs as it is printed."""

from pathlib import Path

import numpy as np

INTEGRATION = Path(__file__).parents[1] / "docs" / "integration.md"


def test_the_integration_example_runs() -> None:
    text = INTEGRATION.read_text()
    code = text.split("```python\n", 1)[1].split("```", 1)[0]
    names: dict[str, object] = {}
    exec(compile(code, str(INTEGRATION), "exec"), names)
    expected = names["expected"]
    assert isinstance(expected, list)
    assert [rows.shape for rows in expected] == [(8, 16)] * 2
    assert all(np.abs(rows).max() > 0 for rows in expected)
