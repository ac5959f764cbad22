"""How the drift pages look: one style sheet, inline, so that a page needs nothing else."""

STYLE = """
:root { --ink: #1f2933; --muted: #5f6b78; --line: #e1e6eb; --soft: #f6f8fa; --blue: #2563a8; --orange: #b9581c; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff; font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 3rem 1.5rem 4rem; }
h1 { font-size: 2rem; line-height: 1.2; letter-spacing: -.015em; margin: 0 0 .4rem; }
h2 { font-size: 1.25rem; margin: 3rem 0 .4rem; }
p { margin: .3rem 0; max-width: 76ch; }
.muted, figcaption, .lead { color: var(--muted); }
.severity { display: inline-block; padding: .25rem .9rem; border-radius: 1rem; font-weight: 650; font-size: .95rem;
  margin-bottom: .8rem; letter-spacing: .02em; }
.NONE { color: #1f7344; background: #e7f4ec; } .LOW { color: #7a5a10; background: #fbf0d4; }
.MEDIUM { color: #8a4b0b; background: #fbe3c4; } .HIGH { color: #fff; background: #cf6230; }
.CRITICAL { color: #fff; background: #b4232f; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 1rem; margin: 1.6rem 0 0;
  padding: 0; }
.cards div { padding: 1rem 1.1rem; background: var(--soft); border-radius: .6rem; }
.cards dt { font-size: .85rem; color: var(--muted); }
.cards dd { margin: .1rem 0 0; font-size: 1.5rem; line-height: 1.3; font-weight: 600;
  font-variant-numeric: tabular-nums; }
.cards small { display: block; font-size: .82rem; font-weight: 400; line-height: 1.4; color: var(--muted); }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 460px), 1fr)); gap: 1.6rem 2rem;
  margin-top: 1rem; }
figure { margin: 0; min-width: 0; } figure svg { display: block; width: 100%; height: auto; }
figcaption { font-size: .88rem; overflow-wrap: anywhere; } figcaption b { color: var(--ink); font-size: 1rem; }
.key::before { content: ""; display: inline-block; width: .8rem; height: .8rem; border-radius: .2rem;
  margin: 0 .35rem 0 1rem;
  vertical-align: -.08rem; } .key.was::before { background: #2563a8; margin-left: 0;
  } .key.now::before { background: #d0702a; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; margin-top: .6rem;
  font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--muted); font-size: .82rem;
  border-bottom: 2px solid var(--line); white-space: nowrap; }
th, td { padding: .42rem .9rem .42rem 0; vertical-align: top; } td { border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
th.n, td.n { text-align: right; white-space: nowrap; } td.t { white-space: nowrap; } td small { display: block;
  color: var(--muted); }
.bad { color: #b4232f; font-weight: 600; } .good { color: #1f7344; font-weight: 600; }
.pill { display: inline-block; padding: .02rem .5rem; border-radius: .8rem; font-size: .8rem; white-space: nowrap; }
.bar { display: inline-block; height: .55rem; border-radius: .15rem; background: #9fb6d0; vertical-align: .05rem; }
.bar.bad { background: #cf6230; }
ul { padding-left: 1.1rem; margin: .4rem 0; } li { margin: .2rem 0; overflow-wrap: anywhere; }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--muted);
  font-size: .88rem; }
@media print { main { padding: 0; } figure, tr { break-inside: avoid; } }
"""
