import { fileURLToPath } from 'node:url'
import { readdirSync } from 'node:fs'
import ts from 'typescript'
import { expect, it } from 'vitest'

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url))

it("the page's scripts use the server's types correctly", () => {
  const folder = path('../src/server/page/')
  const scripts = readdirSync(folder).filter((name) => name.endsWith('.js'))
  const program = ts.createProgram(
    scripts.map((name) => folder + name),
    {
      allowJs: true,
      checkJs: true,
      strict: true,
      noEmit: true,
      skipLibCheck: true,
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.NodeNext,
      moduleResolution: ts.ModuleResolutionKind.NodeNext,
      lib: ['lib.es2023.d.ts', 'lib.dom.d.ts', 'lib.dom.iterable.d.ts', 'lib.dom.asynciterable.d.ts'],
      types: ['node'],
      paths: { '@mirastral/data': [path('../../data/src/index.ts')] },
    },
  )
  const problems = scripts.flatMap((name) => {
    const source = program.getSourceFile(folder + name)
    const found = [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)]
    return found.map(({ start = 0, messageText }) => {
      const line = (source?.getLineAndCharacterOfPosition(start).line ?? 0) + 1
      return `${name}:${line} ${ts.flattenDiagnosticMessageText(messageText, ' ')}`
    })
  })
  expect(scripts.length).toBeGreaterThan(5)
  expect(problems).toEqual([])
})
