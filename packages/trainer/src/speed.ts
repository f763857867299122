/** Tokens per second and seconds per step of the training work alone, without evaluations and saves. */
export class SpeedMeter {
  private tokens = 0
  private seconds = 0
  private steps = 0
  private recent: number | null = null

  addTokens(tokens: number): void {
    this.tokens += tokens
  }

  addSeconds(seconds: number): void {
    this.seconds += seconds
  }

  addStep(): void {
    this.steps++
  }

  /** The speed since the last call, and the recent time of a step (an exponential mean over calls, memory 0.8). */
  take(): { tokensPerSecond: number; secondsPerStep: number } {
    const { tokens, seconds, steps } = this
    this.tokens = this.seconds = this.steps = 0
    const perStep = steps > 0 ? seconds / steps : (this.recent ?? 0)
    this.recent = this.recent === null ? perStep : 0.8 * this.recent + 0.2 * perStep
    return { tokensPerSecond: seconds > 0 ? tokens / seconds : 0, secondsPerStep: this.recent }
  }
}
