/**
 * What the threads of one process tell each other about shared databases (keeper.ts), over a BroadcastChannel named after
 * the store's directory.
 */

/** To the owner. `member` is the sender; `call` numbers its requests. */
export type MemberMessage =
  | { readonly kind: 'hold', readonly member: string, readonly call: number, readonly path: string, readonly create: boolean }
  | { readonly kind: 'repair', readonly member: string, readonly call: number, readonly path: string }
  | { readonly kind: 'release', readonly member: string, readonly path: string }
  | { readonly kind: 'suspect', readonly member: string, readonly path: string }

/** From the owner: an answer to one member, or word to all. */
export type OwnerMessage =
  | { readonly kind: 'answer', readonly member: string, readonly call: number, readonly held: boolean }
  | { readonly kind: 'failed', readonly member: string, readonly call: number, readonly code: string, readonly detail: string }
  | { readonly kind: 'retire', readonly path: string }
  | { readonly kind: 'suspected', readonly path: string }

export type KeeperMessage = MemberMessage | OwnerMessage

/** The thread of a member id. */
export function memberId (threadId: number, unique: string): string {
  return `${threadId}:${unique}`
}

export function threadOf (member: string): number {
  return Number(member.slice(0, member.indexOf(':')))
}

export function channelName (directory: string): string {
  return `twinfold-store:${directory}`
}
