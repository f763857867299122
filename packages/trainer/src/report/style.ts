/** One style sheet for the report and the dashboard: light and dark, phone and print. */
export const reportStyle = `
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --ink: #1b2330; --soft: #5b6676; --rule: #e1e5eb;
  --c1: #2563c9; --c2: #d9632a; --c3: #17836f; --good: #17836f; --bad: #b3261e; --mark: #9aa5b4; }
@media (prefers-color-scheme: dark) { :root { --page: #12161c; --card: #1a2029; --ink: #e7ebf1; --soft: #9aa7b8; --rule: #2c3542;
  --c1: #6fa3f5; --c2: #f19a63; --c3: #4fc3a8; --good: #4fc3a8; --bad: #f2857d; --mark: #5f6c7d; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0; }
h2 { font-size: 1.15rem; margin: 36px 0 12px; }
h3 { font-size: 1rem; margin: 0; }
.sub { color: var(--soft); margin: 4px 0 0; }
.state { display: inline-block; padding: 2px 12px; border-radius: 999px; font-size: 0.85rem; font-weight: 600;
  border: 1.5px solid currentColor; margin-bottom: 8px; }
.state.finished { color: var(--good); } .state.diverged, .state.failed { color: var(--bad); } .state.stopped, .state.running { color: var(--c1); }
.bar { height: 8px; border-radius: 4px; background: var(--rule); margin: 16px 0 0; overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--c1); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: 12px; margin: 20px 0 0; padding: 0; list-style: none; }
.tiles li { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 10px 14px; }
.tiles b { display: block; font-size: 1.3rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tiles span { color: var(--soft); font-size: 0.85rem; }
.findings { margin: 20px 0 0; padding: 0; list-style: none; }
.findings li { padding: 4px 0 4px 26px; position: relative; }
.findings li::before { position: absolute; left: 4px; font-weight: 700; content: '\\2022'; color: var(--soft); }
.findings .good::before { content: '\\2713'; color: var(--good); } .findings .bad::before { content: '!'; color: var(--bad); left: 7px; }
.charts { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 16px; }
.chart { margin: 0; background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 12px 14px 6px; break-inside: avoid; }
.chart svg { display: block; width: 100%; height: auto; }
figcaption { display: flex; flex-wrap: wrap; gap: 4px 18px; align-items: baseline; justify-content: space-between; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; margin: 0; padding: 0; list-style: none; color: var(--soft); font-size: 0.85rem; }
.swatch { display: inline-block; width: 16px; height: 3px; border-radius: 2px; background: var(--c1); margin-right: 6px; vertical-align: middle; }
.swatch.c2 { background: var(--c2); } .swatch.c3 { background: var(--c3); } .swatch.faint { opacity: 0.4; }
.swatch.marks { width: 9px; height: 9px; border-radius: 50%; } .swatch.level { background: var(--mark); }
svg text { font: 13px system-ui, sans-serif; fill: var(--soft); font-variant-numeric: tabular-nums; }
svg .grid { stroke: var(--rule); } svg .axis { stroke: var(--mark); } svg .mark { stroke: var(--mark); stroke-dasharray: 3 4; }
svg .level { stroke: var(--mark); stroke-dasharray: 8 4; stroke-width: 1.5; }
svg polyline { fill: none; stroke-width: 2.2; stroke-linejoin: round; } svg .faint { stroke-width: 1; opacity: 0.4; } svg .marks { stroke-width: 1.6; }
svg .c1 { stroke: var(--c1); } svg .c2 { stroke: var(--c2); } svg .c3 { stroke: var(--c3); }
svg circle.c1 { fill: var(--c1); } svg circle.c2 { fill: var(--c2); } svg circle.c3 { fill: var(--c3); }
svg circle[class] { stroke: var(--card); stroke-width: 1.5; }
.table { overflow-x: auto; background: var(--card); border: 1px solid var(--rule); border-radius: 10px; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 7px 14px; border-bottom: 1px solid var(--rule); vertical-align: top; }
tr:last-child > * { border-bottom: 0; } thead th { color: var(--soft); font-weight: 500; } tbody th { font-weight: 500; white-space: nowrap; }
.number { text-align: right; } .number, .plain { white-space: nowrap; } .value { overflow-wrap: anywhere; } .why { min-width: 150px; }
.cards { columns: 340px; column-gap: 16px; } .cards > .table { break-inside: avoid; margin-bottom: 16px; }
.cards h3, summary { padding: 10px 14px 4px; } summary { font-weight: 600; cursor: pointer; padding-bottom: 10px; }
.time { display: flex; height: 14px; min-width: 140px; border-radius: 4px; overflow: hidden; background: var(--rule); margin-top: 4px; }
.time i { background: var(--c1); } .time .load { background: var(--c2); }
footer { color: var(--soft); font-size: 0.85rem; margin-top: 36px; }
@media (max-width: 720px) { main { padding: 20px 12px 40px; } .charts { grid-template-columns: minmax(0, 1fr); } svg text { font-size: 21px; } th, td { padding: 6px 8px; } table { font-size: 0.82rem; }
  h1 { font-size: 1.35rem; } .tiles { grid-template-columns: repeat(2, 1fr); } }
@media print { :root { color-scheme: light; --page: #fff; --card: #fff; --ink: #000; --soft: #444; --rule: #ccc; --c1: #2563c9; --c2: #c1521b; --c3: #17836f;
  --good: #17836f; --bad: #b3261e; --mark: #888; } body { font-size: 11pt; -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  main { max-width: none; padding: 0; } h2, h3 { break-after: avoid; } tr, .tiles { break-inside: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; } }
`
