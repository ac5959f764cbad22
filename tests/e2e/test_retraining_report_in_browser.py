"""The page of a retraining life in a real browser: at 1200 px it shows every column, and nothing scrolls sideways."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime
from pathlib import Path

import parts

from gauntlet.cli.retrain.page import page
from gauntlet.ledger_document import PromotionWorth
from gauntlet.retraining_document import ReportDocument, ReportLine

AT = datetime(2026, 11, 29, 15, 40, tzinfo=UTC)
LONG = "log_loss improves by 0.01234 a row on 234,567 held-out rows; at 95% confidence over 14 blocks it is not worse"
WIDTHS = """
<p id="out"></p><script>onload = () => {
  const found = frames[0].document, root = found.documentElement;
  const pairs = [root, ...found.querySelectorAll(".wide")].map(one => `${one.scrollWidth}/${one.clientWidth}`);
  document.getElementById("out").textContent = pairs.join(" ");
}</script>"""


def line(number: int) -> ReportLine:
    return ReportLine(
        job=f"retrain_20261129_{number:03d}",
        at=AT,
        trigger="performance",
        severity="CRITICAL",
        reason=LONG,
        recipe="60d-searched",
        champion="v0007",
        status="completed",
        train_rows=12_345_678,
        holdout_rows=2_345_678,
        version="v0008",
        accepted=True,
        improvement=0.01234,
        gate=LONG,
        rollout="arrival-delays-at-airports-r0012",
        state="rolled_back",
        decision=LONG,
        decided=AT,
        gain=-0.0123,
        gain_lower=-0.0276,
        gain_upper=0.0034,
        outcome="rolled back",
    )


WORTH = PromotionWorth(
    promotion="arrival-delays-at-airports-r0012",
    champion="v0008",
    previous="v0007",
    state="taken_back",
    since=AT,
    until=AT,
    pairs=1_234_567,
    gain=-0.0123,
    lower=-0.0276,
    upper=0.0034,
)


def test_nothing_scrolls_sideways_at_1200_pixels(chromium: parts.Chromium, tmp_path: Path) -> None:
    report = ReportDocument(
        model="arrival-delays-at-airports",
        at=AT,
        champion="v0007",
        metric="log_loss",
        jobs=2,
        by_status={"completed": 2},
        by_trigger={"performance": 2},
        accepted=2,
        promoted=0,
        lines=[line(2), line(1)],
        promotions=[WORTH],
    )
    inside = html.escape(page(report), quote=True)
    (tmp_path / "frame.html").write_text(f'<iframe width="1200" height="900" srcdoc="{inside}"></iframe>{WIDTHS}')
    told = re.search(r'<p id="out">(.*?)</p>', chromium.visit((tmp_path / "frame.html").as_uri()).dom)
    assert told is not None
    widths = [tuple(map(int, pair.split("/"))) for pair in told[1].split()]
    assert len(widths) == 3, "the page and its tables"
    assert all(needed <= shown for needed, shown in widths), widths
