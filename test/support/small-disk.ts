/** A small file system for drills: a tmpfs of a given size, which needs root and a kernel that allows the mount. */
import { execFile } from 'node:child_process'
import { closeSync, openSync, unlinkSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const blockBytes = 256 * 1024

export class SmallDisk {
  readonly directory: string

  private constructor (directory: string) {
    this.directory = directory
  }

  /** Mounts over an empty directory; a string says why it cannot be done here. */
  static async mount (directory: string, bytes: number): Promise<SmallDisk | string> {
    if (process.platform !== 'linux') return 'tmpfs is a Linux file system'
    if (process.getuid?.() !== 0) return 'mounting a file system needs root'
    try {
      await run('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', directory])
    } catch (error) {
      return `tmpfs cannot be mounted here: ${(error as Error).message}`
    }
    return new SmallDisk(directory)
  }

  async unmount (): Promise<void> {
    await run('umount', ['-l', this.directory])
  }

  /** Writes ballast until nothing fits any more. */
  fill (): void {
    const file = openSync(join(this.directory, 'ballast'), 'a')
    try {
      for (let size = blockBytes; size >= 4096; size /= 2) {
        try {
          const block = Buffer.alloc(size, 0x42)
          for (;;) if (writeSync(file, block) < size) break
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
        }
      }
    } finally {
      closeSync(file)
    }
  }

  /** Removes the ballast. */
  free (): void {
    unlinkSync(join(this.directory, 'ballast'))
  }
}
