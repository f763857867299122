/** The page's only style sheet. Colours in pairs that keep a contrast of at least 4.5 to 1 in light and dark. */
export const style = `
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1d2430; --soft: #596374; --line: #dde2ea; --panel: #f5f7fa;
  --before: #8a94a6; --after: #2f6fbf; --good: #17693c; --bad: #b3261e; --good-back: #e4f4ea; --bad-back: #fdeae8; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181f; --ink: #e6eaf0; --soft: #a3adbd; --line: #323a47; --panel: #1c222b;
  --before: #7f8a9d; --after: #6aa7f0; --good: #7fd6a2; --bad: #ff9d94; --good-back: #17301f; --bad-back: #3a1d1b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.25rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
p { margin: .25rem 0 .75rem; }
.soft, .note { color: var(--soft); }
.note { font-size: .9rem; }
.verdict { background: var(--panel); border-left: 4px solid var(--after); padding: .75rem 1rem; margin: 1rem 0; }
.verdict p:last-child { margin-bottom: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; table-layout: fixed; }
caption { text-align: left; font-weight: 600; padding: 1.25rem 0 .25rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .5rem; border-top: 1px solid var(--line); }
thead th { color: var(--soft); font-weight: 500; font-size: .85rem; border-top: 0; overflow-wrap: anywhere; }
tbody th { font-weight: 400; overflow-wrap: anywhere; } thead th:first-child { width: 34%; }
td { font-variant-numeric: tabular-nums; }
td small { color: var(--soft); display: block; }
svg { display: block; width: 100%; max-width: 9rem; height: 8px; margin-top: .3rem; }
.track { fill: var(--line); } .bar0 { fill: var(--before); } .bar1 { fill: var(--after); } .single { fill: var(--after); }
.good { color: var(--good); } .bad { color: var(--bad); }
details { border: 1px solid var(--line); border-radius: 6px; margin: .4rem 0; }
summary { cursor: pointer; padding: .5rem .75rem; display: flex; gap: .75rem; justify-content: space-between; align-items: baseline; }
summary::before { content: '\\25B8'; color: var(--soft); } details[open] > summary::before { content: '\\25BE'; }
summary:focus-visible { outline: 2px solid var(--after); outline-offset: 2px; }
summary .about { flex: 1; } summary .states { white-space: nowrap; font-size: .85rem; }
.turn { border-top: 1px solid var(--line); padding: .5rem .75rem; }
.message { white-space: pre-wrap; overflow-wrap: anywhere; color: var(--soft); margin: .25rem 0; }
.columns { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fit, minmax(min(18rem, 100%), 1fr)); }
.reply { background: var(--panel); border-radius: 6px; padding: .5rem .75rem; min-width: 0; }
.reply h4 { margin: 0; font-size: .85rem; font-weight: 600; color: var(--soft); overflow-wrap: anywhere; }
.reply .text { white-space: pre-wrap; overflow-wrap: anywhere; margin: .25rem 0 .5rem; }
ul.checks { list-style: none; padding: 0; margin: .25rem 0 0; font-size: .9rem; }
ul.checks li { border-radius: 4px; padding: .1rem .4rem; margin: .15rem 0; }
li.good { background: var(--good-back); } li.bad { background: var(--bad-back); }
@media (max-width: 40rem) { body { font-size: 15px; } th, td { padding: .35rem .3rem; }
  summary { flex-wrap: wrap; gap: .1rem .75rem; } summary .about { flex-basis: calc(100% - 2rem); } summary .states { padding-left: 1.6rem; } }
@media print { main { max-width: none; padding: 0; } details { break-inside: avoid; } .scroll { overflow: visible; }
  details::details-content { content-visibility: visible; block-size: auto; } * { print-color-adjust: exact; } }
`
