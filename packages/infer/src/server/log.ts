/** One line of the log. Numbers and names only: nothing that anybody wrote, no addresses, no keys. */
export interface LogRecord {
  readonly event: 'listening' | 'request' | 'error' | 'stopping' | 'stopped'
  readonly [field: string]: unknown
}

export type Log = (record: LogRecord) => void

/** JSON lines with the time, for `write` to put somewhere. */
export function jsonLog(write: (line: string) => void): Log {
  return (record) => write(`${JSON.stringify({ time: new Date().toISOString(), ...record })}\n`)
}
