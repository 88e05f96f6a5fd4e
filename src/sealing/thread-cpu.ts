/**
 * How long this thread was busy, ms: the active time of its event loop, which leaves out waiting for the store. Node 20 tells CPU
 * time of the whole process only (`process.threadCpuUsage` comes with Node 23); where it is there, it is used.
 */
interface ThreadCpu { threadCpuUsage?: () => { readonly user: number, readonly system: number } }

export function threadCpuMs (): number {
  const usage = (process as ThreadCpu).threadCpuUsage?.()
  return usage === undefined ? performance.eventLoopUtilization().active : (usage.user + usage.system) / 1000
}
