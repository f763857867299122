import type { FileHandle } from 'node:fs/promises'

/** One system call writes at most 2^31 bytes, and may write fewer than asked. */
const maxWriteBytes = 2 ** 28

/** Writes all bytes at a position of an open file. */
export async function writeFully(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const length = Math.min(bytes.length - done, maxWriteBytes)
    done += (await handle.write(bytes, done, length, position + done)).bytesWritten
  }
}
