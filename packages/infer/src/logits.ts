/**
 * The logits processors of Hugging Face Transformers (`generation/logits_process.py`), in place on one row of float32
 * logits of shape [vocabSize]. A removed token has the logit -Infinity; every truncation keeps at least one token.
 */

/**
 * `RepetitionPenaltyLogitsProcessor`: positive logits are divided by the penalty, negative ones multiplied, once per
 * distinct id, whether it came from the prompt or the answer.
 */
export function applyRepetitionPenalty(logits: Float32Array, ids: Iterable<number>, penalty: number): void {
  if (penalty === 1) return
  const factor = Math.fround(penalty)
  for (const id of ids) {
    const logit = logits[id]
    if (logit !== undefined) logits[id] = logit < 0 ? logit * factor : logit / factor
  }
}

/**
 * The OpenAI penalties: `logit -= count * frequency + (count > 0) * presence`, over the tokens of the answer only.
 * `counts` maps a token id to how often the answer contains it.
 */
export function applyCountPenalties(
  logits: Float32Array,
  counts: ReadonlyMap<number, number>,
  penalties: { readonly presence: number; readonly frequency: number },
): void {
  const { presence, frequency } = penalties
  if (presence === 0 && frequency === 0) return
  for (const [id, count] of counts) logits[id] -= count * frequency + presence
}

/** Removes every token whose bit in `allowed` is 0: bit `id & 31` of word `id >> 5`. */
export function applyMask(logits: Float32Array, allowed: Uint32Array): void {
  for (let id = 0; id < logits.length; id++) {
    if (((allowed[id >> 5] >>> (id & 31)) & 1) === 0) logits[id] = -Infinity
  }
}

/** `TemperatureLogitsWarper`: logits / temperature, for a temperature above 0. */
export function applyTemperature(logits: Float32Array, temperature: number): void {
  if (temperature === 1) return
  const divisor = Math.fround(temperature)
  for (let id = 0; id < logits.length; id++) logits[id] /= divisor
}

/** `TopKLogitsWarper`: removes the tokens below the k-th greatest logit; tokens equal to it all stay. 0 keeps all. */
export function applyTopK(logits: Float32Array, k: number): void {
  if (k === 0 || k >= logits.length) return
  const threshold = kthGreatest(logits, k)
  for (let id = 0; id < logits.length; id++) if (logits[id] < threshold) logits[id] = -Infinity
}

/** `TopPLogitsWarper`: removes the least likely tokens as long as their probability together is at most 1 - topP. */
export function applyTopP(logits: Float32Array, topP: number): void {
  if (topP >= 1) return
  const probabilities = softmax(logits)
  const removable = Math.fround(1 - topP)
  // Tokens this unlikely cannot reach 1 - topP together, so all of them go and only the others need to be sorted.
  const surelyRemoved = (removable * 0.999) / logits.length
  const others: number[] = []
  let cumulative = 0
  for (let id = 0; id < logits.length; id++) {
    if (probabilities[id] > surelyRemoved) {
      others.push(id)
      continue
    }
    cumulative += probabilities[id]
    logits[id] = -Infinity
  }
  others.sort((a, b) => logits[a] - logits[b] || b - a)
  for (const id of others.slice(0, -1)) {
    cumulative += probabilities[id]
    if (Math.fround(cumulative) > removable) break
    logits[id] = -Infinity
  }
}

/** `MinPLogitsWarper`: removes the tokens whose probability is below minP times that of the most likely token. */
export function applyMinP(logits: Float32Array, minP: number): void {
  if (minP === 0) return
  const probabilities = softmax(logits)
  const best = argmax(probabilities)
  const threshold = Math.fround(Math.fround(minP) * probabilities[best])
  for (let id = 0; id < logits.length; id++) {
    if (probabilities[id] < threshold && id !== best) logits[id] = -Infinity
  }
}

/** The lowest index of the greatest value. */
export function argmax(values: Float32Array): number {
  let best = 0
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i
  return best
}

/** Probabilities in float32, summed in float64. */
export function softmax(logits: Float32Array): Float32Array {
  const max = logits[argmax(logits)]
  const out = new Float32Array(logits.length)
  let sum = 0
  for (let id = 0; id < logits.length; id++) {
    if (logits[id] === -Infinity) continue
    out[id] = Math.exp(logits[id] - max)
    sum += out[id]
  }
  for (let id = 0; id < out.length; id++) out[id] /= sum
  return out
}

/** log(sum(exp(logits))) in float64. */
export function logSumExp(logits: Float32Array): number {
  const max = logits[argmax(logits)]
  let sum = 0
  for (let id = 0; id < logits.length; id++) sum += Math.exp(logits[id] - max)
  return max + Math.log(sum)
}

function kthGreatest(logits: Float32Array, k: number): number {
  if (k <= 256) return logits[greatestIds(logits, k)[k - 1]]
  const sorted = Float32Array.from(logits).sort()
  return sorted[sorted.length - k]
}

/** The ids of the n greatest logits, greatest first, the lower of two equal ones first. For small n: one pass. */
export function greatestIds(logits: Float32Array, n: number): number[] {
  const best: number[] = []
  for (let id = 0; id < logits.length; id++) {
    if (best.length === n && !(logits[id] > logits[best[n - 1]])) continue
    let at = best.length
    while (at > 0 && logits[best[at - 1]] < logits[id]) at--
    best.splice(at, 0, id)
    if (best.length > n) best.pop()
  }
  return best
}
