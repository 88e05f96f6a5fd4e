/** What a process used, read from Linux' /proc (proc(5)): CPU time, memory; and what a directory takes on disk. */
import { readFileSync } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'

/** USER_HZ, which Linux fixes for /proc on every platform that Node runs on. */
const ticksPerSecond = 100

/** User and system CPU time since the process began, all threads, ms; in steps of 10 ms. */
export function cpuMs (pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // The name in parentheses may hold spaces; utime and stime are fields 14 and 15, the name is field 2.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 1000 / ticksPerSecond
}

function statusKib (pid: number, name: string): number {
  const line = readFileSync(`/proc/${pid}/status`, 'utf8').split('\n').find(candidate => candidate.startsWith(`${name}:`))
  return Number(/[0-9]+/.exec(line ?? '')?.[0] ?? 0)
}

/** Resident memory now, KiB. */
export function residentKib (pid: number): number {
  return statusKib(pid, 'VmRSS')
}

/** Greatest resident memory so far, KiB. */
export function peakResidentKib (pid: number): number {
  return statusKib(pid, 'VmHWM')
}

/** Bytes of all files below a directory, by their lengths. A file that vanishes meanwhile counts 0. */
export async function directoryBytes (directory: string): Promise<number> {
  let bytes = 0
  for (const name of await readdir(directory, { recursive: true })) {
    const found = await stat(join(directory, name)).catch(() => null)
    if (found?.isFile() === true) bytes += found.size
  }
  return bytes
}
