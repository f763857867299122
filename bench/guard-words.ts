// Lists the dictionary words that the guard's typo repair would change, so that it leaves them alone.
// Usage: node --loader ts-node/esm bench/guard-words.ts <word list> [...]   (Debian: wamerican-small, wbritish-small)
import { readFileSync, writeFileSync } from 'node:fs'
import { loadLanguage, packageDataFolder, repairWord } from '@mirastral/infer'

const dictionaries = process.argv.slice(2)
if (dictionaries.length === 0) {
  console.error('guard-words: name at least one word list, one word on each line')
  process.exit(2)
}
const target = `${packageDataFolder()}/guard/en/ordinary-words.txt`
writeFileSync(target, '')
const { spelling } = loadLanguage('en')
const words = new Set(
  dictionaries.flatMap((path) => readFileSync(path, 'utf8').split('\n')).filter((word) => /^[a-z]{4,20}$/.test(word)),
)
const changed = [...words].filter((word) => {
  const repaired = repairWord(word, spelling)
  return !spelling.expansions.has(word) && (repaired.length !== 1 || repaired[0] !== word)
})
writeFileSync(target, `${changed.sort().join('\n')}\n`)
console.log(`guard-words: ${changed.length} of ${words.size} words would have been changed`)
