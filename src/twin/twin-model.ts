/** A twin as everybody sees it, and what can be asked of it: the surface between the twin service, the edges, search and events. */

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json }
export type JsonObject = Readonly<Record<string, Json>>

/** Of one leaf: when it was set. */
export interface LeafTime {
  /** The device's own time of the change where it gave one, else the accept stamp, µs. */
  readonly at: number
  /** Accept stamp, µs: which change was accepted last. */
  readonly stamp: number
  /** Number that the device gave its update (`$version`), where it did. */
  readonly v?: number
}

export interface TwinView {
  readonly deviceId: string
  /** '' for the device's own twin. */
  readonly name: string
  readonly tags: Readonly<Record<string, string>>
  readonly desired: JsonObject
  readonly reported: JsonObject
  /** The parts of desired that differ from reported; what is desired to be absent stands as null. */
  readonly delta: JsonObject
  /** Times by path of the leaf, dotted (`a.b`; a dot in a key is escaped by a backslash). */
  readonly metadata: { readonly desired: Readonly<Record<string, LeafTime>>, readonly reported: Readonly<Record<string, LeafTime>> }
  /** 0: nothing was ever changed. */
  readonly version: number
  /** The version that last changed each part; 0: none. */
  readonly desiredVersion: number
  readonly reportedVersion: number
  readonly tagsVersion: number
  /** µs; 0: never. */
  readonly createdAt: number
  readonly updatedAt: number
  /** Names of the device's named twins; only on its own twin. */
  readonly names?: readonly string[]
}

export interface TwinId { readonly tenant: string, readonly device: string, readonly name: string }

/** Who changed it. */
export interface Actor {
  readonly kind: 'device' | 'operator' | 'application' | 'server'
  /** Device id, credential id, or what part of the server. */
  readonly id: string
  readonly via: 'mqtt' | 'http' | 'job' | 'server'
}

/** What an operator or application changes. Merge patches (RFC 7396); `replace`: the whole part instead. */
export interface TwinChange {
  readonly desired?: JsonObject
  readonly tags?: Readonly<Record<string, string | null>>
  readonly replace?: boolean
  /** The version it must be at (If-Match); null or absent: any. */
  readonly ifVersion?: number | null
  /** Must hold for the twin as it is when the change is made, atomically with it. */
  readonly condition?: (twin: TwinView) => boolean
  /** For the history, at most 256 characters. */
  readonly reason?: string
}

export type ChangeOutcome =
  | { readonly kind: 'changed', readonly twin: TwinView }
  /** It was so already: no version was spent. */
  | { readonly kind: 'unchanged', readonly twin: TwinView }
  /** `ifVersion` or the condition does not hold. Nothing is changed. */
  | { readonly kind: 'precondition_failed', readonly twin: TwinView }
  /** A limit or a rule (size, depth, keys, the model's schema). Nothing is changed. `field`: a JSON pointer into the request. */
  | { readonly kind: 'refused', readonly code: 'invalid_field' | 'limit_reached' | 'not_found', readonly detail: string, readonly field: string }

/** One step of the history, newest format. */
export interface TwinEvent {
  readonly version: number
  /** µs */
  readonly stamp: number
  readonly kind: 'created' | 'changed' | 'deleted'
  readonly actor: Actor
  readonly reason: string
  /** What changed, as merge patches on the state before; a part that did not change is absent. */
  readonly patch: { readonly desired?: JsonObject, readonly reported?: JsonObject, readonly tags?: Readonly<Record<string, string | null>> }
  /** On a device's own twin: one of its named twins was made or deleted. */
  readonly named?: { readonly name: string, readonly is: 'added' | 'removed' }
}

/** A change of a twin that was committed by this process. */
export interface TwinChanged {
  readonly id: TwinId
  readonly version: number
  readonly desired: boolean
  readonly reported: boolean
  readonly tags: boolean
  /** State after it; made at the first look. */
  readonly twin: TwinView
}

/** What the edges and others ask of twins. Implementation: twin-service.ts. Every method may throw `store_unavailable`. */
export interface Twins {
  /** null: there is no such device (or named twin). A device that was never changed has an empty twin at version 0 or 1. */
  get (id: TwinId): Promise<TwinView | null>
  /** In the order asked; at most 1000. */
  getMany (ids: readonly TwinId[]): Promise<readonly (TwinView | null)[]>
  change (id: TwinId, change: TwinChange, actor: Actor): Promise<ChangeOutcome>
  /** Deletes a named twin, or empties nothing: a device's own twin goes with the device. */
  remove (id: TwinId, actor: Actor): Promise<boolean>
  /** The device was registered, with its tags; or is being deleted, with all its twins. */
  deviceCreated (tenant: string, device: string, tags: Readonly<Record<string, string>>, actor: Actor): Promise<void>
  deviceDeleted (tenant: string, device: string, actor: Actor): Promise<void>
  /** As it was; null: before its history, or deleted then. */
  at (id: TwinId, when: { readonly version: number } | { readonly stamp: number }): Promise<TwinView | null>
  /** Newest first, versions below `before`. */
  changes (id: TwinId, before: number | null, limit: number): Promise<readonly TwinEvent[]>
  /** Merge patches that lead from one version to the other; null where one of them is not kept. */
  diff (id: TwinId, from: number, to: number): Promise<{ readonly desired: JsonObject, readonly reported: JsonObject, readonly tags: JsonObject } | null>
  /** Called after every commit of this process, in version order for each twin. Must not throw. Returns how to stop. */
  onChanged (listener: (changed: TwinChanged) => void): () => void
  /** Somebody has read the registry's copy of the tags beside the twin: it is made right, in the background, where it differs. */
  seenTags? (tenant: string, device: string, shown: TwinView, copy: Readonly<Record<string, string>>): void
}

/** What a device's model says about its twin; how conflicts of reported with desired state are settled. */
export interface TwinRules {
  /**
   * What happens to a desired leaf when the device reports another value for it (say, from its offline buffer): `cloud`: desired stays and
   * is in the delta; `device`: desired takes the device's value; `newest`: as `device` where the device's time of the change is later than
   * the desired leaf's, else as `cloud`.
   */
  readonly conflicts: 'cloud' | 'device' | 'newest'
  /** What is wrong with the state by the model's schema, in words that name the place; null: nothing. */
  readonly check: (part: 'desired' | 'reported', state: JsonObject) => string | null
}

/** Rules by device, from its model; cached, so that no change waits for it as a rule. */
export interface TwinRulesSource {
  rulesOf (tenant: string, device: string): Promise<TwinRules>
}
