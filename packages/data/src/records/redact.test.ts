import { describe, expect, it } from 'vitest'
import { Redactor, redactionSchema } from './redact.js'
import type { Tally } from './tally.js'

const all = new Redactor(redactionSchema.parse({ names: ['Anna Berger', 'Anna', "O'Neil"] }))

function redacted(text: string, redactor = all): string {
  return redactor.redactText(text, {})
}

describe('Redactor', () => {
  it.each([
    ['Write to anna.b+x@mail.example.org, please.', 'Write to [EMAIL], please.'],
    ['müller@größe.example', '[EMAIL]'],
    ['Call +49 (0)30 1234-5678 or 030 12345678.', 'Call [PHONE] or [PHONE].'],
    ['My cell is (555) 010-4477 or 555-010-4477.', 'My cell is [PHONE] or [PHONE].'],
    ['Card 4111 1111 1111 1111, exp 12/29', 'Card [CARD], exp 12/29'],
    ['IBAN DE89 3704 0044 0532 0130 00!', 'IBAN [CARD]!'],
    ['SSN 123-45-6789', 'SSN [ID]'],
    ['NI number AB 12 34 56 C', 'NI number [ID]'],
    ['DNI 12345678Z', 'DNI [ID]'],
    ['CPF 529.982.247-25', 'CPF [ID]'],
    ['PESEL 44051401359', 'PESEL [ID]'],
    ['see https://x.example/reset?token=abc123&x=1 now', 'see [URL] now'],
    ['https://user:pass@x.example/path', '[URL]'],
    ["Anna Berger and anna met Mr O’Neil, O'Neil.", '[NAME] and [NAME] met Mr O’Neil, [NAME].'],
  ])('replaces personal data: %s', (text, expected) => {
    expect(redacted(text)).toBe(expected)
  })

  it.each([
    'In crisis call 988, text 741741, or 116 123 (Samaritans); also 1-800-273-8255 and 112.',
    'It was 2024-05-12, then 12/05/2024 and 12.05.2024.',
    'I have 3 cats, 12 plants, 1042 books and 1,000,000 worries.',
    'Version 1.2.3.4 of chapter 10-12, from 1999 to 2003.',
    'See https://x.example/articles?page=2&sort=new.',
    'Annabel is no Anna-like... well.'.replace('Anna-like', 'ANNALIKE'),
    'Card number 4111 1111 1111 1112 is not one, nor is 1234567890123.',
    'Room 123 456 780 and the letters AB CD.',
    'He said 5-6 words, maybe 10 20 30.',
  ])('leaves other text alone: %s', (text) => {
    expect(redacted(text)).toBe(text)
  })

  it('replaces only the kinds that are asked for', () => {
    const some = new Redactor(redactionSchema.parse({ email: false, phone: false }))
    expect(redacted('a@b.example +49 30 1234567 123-45-6789', some)).toBe('a@b.example +49 30 1234567 [ID]')
  })

  it('reaches every text of a conversation, counts, and leaves names of tools and fields', () => {
    const counts: Tally = {}
    const mail = 'x@y.example'
    const draft = all.redact(
      {
        turns: [
          { role: 'system', content: mail },
          { role: 'user', content: mail },
          {
            role: 'assistant',
            content: '',
            toolCalls: [{ id: 'i', name: 'Anna', arguments: { Anna: [mail, { deep: mail }], n: 5 } }],
          },
          { role: 'tool', content: mail, toolCallId: 'i' },
        ],
        tools: [{ name: 'Anna', description: mail, parameters: { Anna: mail } }],
      },
      counts,
    )
    expect(draft).toEqual({
      turns: [
        { role: 'system', content: '[EMAIL]' },
        { role: 'user', content: '[EMAIL]' },
        {
          ...{ role: 'assistant', content: '' },
          toolCalls: [{ id: 'i', name: 'Anna', arguments: { Anna: ['[EMAIL]', { deep: '[EMAIL]' }], n: 5 } }],
        },
        { role: 'tool', content: '[EMAIL]', toolCallId: 'i' },
      ],
      tools: [{ name: 'Anna', description: '[EMAIL]', parameters: { Anna: mail } }],
    })
    expect(counts).toEqual({ email: 6 })
  })
})
