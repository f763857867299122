import { describe, expect, it } from 'vitest'
import { markersOf } from './markers.js'
import type { Markers } from './markers.js'

/** Hand-written replies with the counts that a reader gives them, in the order of `Markers`. */
const goldens: readonly [reply: string, counts: readonly number[]][] = [
  // sentences, reflections, validations, open, closed, advice
  ['', [0, 0, 0, 0, 0, 0]],
  ['It sounds like you are carrying the whole house on your own. What would help tonight?', [2, 1, 0, 1, 0, 0]],
  ['So you feel left out, even among friends. That makes sense. Is it the same at work?', [3, 1, 1, 0, 1, 0]],
  ['You should exercise more. Try to sleep eight hours. Have you tried yoga?', [3, 0, 0, 0, 1, 3]],
  [
    'Thank you for telling me. It must have been hard to say. How are you feeling now, and what do you need?',
    [3, 0, 2, 1, 0, 0],
  ],
  ['You should talk to a friend. Maybe call your sister.', [2, 0, 0, 0, 0, 1]],
  ['Part of you wants to stay, and part of you is already packed.', [1, 1, 0, 0, 0, 0]],
  ['Tell me more about your brother.', [1, 0, 0, 1, 0, 0]],
  ['Could you tell me what happened next?', [1, 0, 0, 1, 0, 0]],
  ['How long have you lived there? How many people know?', [2, 0, 0, 0, 2, 0]],
  ['Would it be helpful if I shared an idea? You could also just try to rest.', [2, 0, 0, 0, 1, 1]],
  ['Here are some tips:\n1. Make a list of worries.\n2. Take a walk every day.\n- Avoid coffee', [4, 0, 0, 0, 0, 3]],
  ['You should call 112 now. Please talk to a doctor about this.', [2, 0, 0, 0, 0, 0]],
  [
    "From what you're saying, you\u2019re torn between two homes. Anyone would be tired after that.",
    [2, 1, 1, 0, 0, 0],
  ],
  ['You want to make sure that you sleep. It does not make sense to worry.', [2, 0, 0, 0, 0, 1]],
  ['**I hear how alone you felt.** You mentioned Dr. Lee; what was that visit like?', [2, 1, 0, 1, 0, 0]],
]

describe('markersOf', () => {
  it.each(goldens)('counts what the sentences of %j do', (reply, counts) => {
    const [sentences, reflections, validations, openQuestions, closedQuestions, advice] = counts
    expect(markersOf(reply)).toEqual({
      sentences,
      reflections,
      validations,
      openQuestions,
      closedQuestions,
      advice,
    } satisfies Record<keyof Markers, number | undefined>)
  })
})
