/** Numbers that states give to people, by their written form and, where there is one, their check digits. */
export interface IdNumber {
  pattern: RegExp
  accepts?: (match: string) => boolean
}

export function digitsOf(text: string): string {
  return text.replaceAll(/\D/g, '')
}

/** The check of payment cards, Canadian and Swedish numbers (ISO/IEC 7812). */
export function luhn(digits: string): boolean {
  let sum = 0
  for (let i = 0; i < digits.length; i++) {
    const digit = Number(digits[digits.length - 1 - i]) * (i % 2 === 0 ? 1 : 2)
    sum += digit > 9 ? digit - 9 : digit
  }
  return sum % 10 === 0 && /[1-9]/.test(digits)
}

/** ISO 13616: the first four characters moved to the end, letters as 10 to 35, remainder 1 of 97. */
export function isIban(text: string): boolean {
  const compact = text.replaceAll(' ', '')
  const numeric = (compact.slice(4) + compact.slice(0, 4)).replaceAll(/[A-Z]/g, (letter) =>
    String(letter.charCodeAt(0) - 55),
  )
  return compact.length >= 15 && BigInt(numeric) % 97n === 1n
}

/** Spain's DNI and NIE: the letter is a function of the number modulo 23. */
function isSpanishId(text: string): boolean {
  const compact = text.toUpperCase().replaceAll(/[ -]/g, '')
  const number = compact.slice(0, -1).replace(/^[XYZ]/, (letter) => String('XYZ'.indexOf(letter)))
  return 'TRWAGMYFPDXBNJZSQVHLCKE'[Number(number) % 23] === compact.at(-1)
}

/** France's numéro de sécurité sociale: the last two digits are 97 minus the rest modulo 97; Corsica counts as 19 and 18. */
function isFrenchId(text: string): boolean {
  const compact = text.replaceAll(/[ .]/g, '').toUpperCase().replace('2A', '19').replace('2B', '18')
  return 97n - (BigInt(compact.slice(0, 13)) % 97n) === BigInt(compact.slice(13))
}

function weightedSum(digits: string, weights: readonly number[]): number {
  return weights.reduce((sum, weight, i) => sum + weight * Number(digits[i]), 0)
}

/** Poland's PESEL. */
function isPolishId(digits: string): boolean {
  return weightedSum(digits, [1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]) % 10 === 0
}

/** Brazil's CPF: two check digits, each modulo 11. */
function isBrazilianId(text: string): boolean {
  const digits = digitsOf(text)
  const check = (length: number): number => {
    const weights = Array.from({ length }, (_, i) => length + 1 - i)
    return ((weightedSum(digits, weights) * 10) % 11) % 10
  }
  return check(9) === Number(digits[9]) && check(10) === Number(digits[10])
}

/** United States, United Kingdom, Spain, France, Italy, Poland, Sweden, Brazil, Canada. */
export const NATIONAL_IDS: readonly IdNumber[] = [
  { pattern: /\b(?!000|666|9\d\d)\d{3}([- ])(?!00)\d{2}\1(?!0000)\d{4}\b/g },
  { pattern: /\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]\b/gi },
  { pattern: /\b(?:\d{8}|[XYZ]-?\d{7})[- ]?[A-Z]\b/gi, accepts: isSpanishId },
  {
    pattern: /\b[12] ?\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}\b/gi,
    accepts: isFrenchId,
  },
  { pattern: /\b[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]\b/gi },
  { pattern: /\b\d{11}\b/g, accepts: isPolishId },
  { pattern: /\b\d{6}[-+]\d{4}\b/g, accepts: (match) => luhn(digitsOf(match)) },
  { pattern: /\b\d{3}\.\d{3}\.\d{3}-\d{2}\b/g, accepts: isBrazilianId },
  { pattern: /\b\d{3}([- ])\d{3}\1\d{3}\b/g, accepts: (match) => luhn(digitsOf(match)) },
]
