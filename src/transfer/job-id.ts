/** Ids of jobs: they sort by creation. */
const stampDigits = 16

/** @param random 8 hex digits, so that two nodes that create in one microsecond differ */
export function newJobId (createdAtUs: number, random: string): string {
  return `${String(createdAtUs).padStart(stampDigits, '0')}-${random}`
}

export function isJobId (id: string): boolean {
  return /^[0-9]{16}-[0-9a-f]{8}$/.test(id)
}
