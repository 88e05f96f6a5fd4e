/**
 * What becomes of a wish to change a twin, judged on the state that the change is committed upon: the draft of an event, or a reason why
 * there is none. Pure; limits and rules are checked on the result, so a change is made whole or not at all.
 */
import type { EventDraft } from './event-codec.js'
import { diffPatch, isEmpty, mergePatch } from './json-merge.js'
import { desiredAfterReport, winningPatch, type Report } from './report.js'
import { checkShape, checkSize, checkTags, reasonCharsMax, type Refusal, type TwinLimits } from './twin-limits.js'
import type { Actor, Json, JsonObject, TwinChange, TwinId, TwinRules } from './twin-model.js'
import type { TwinState } from './twin-state.js'
import { viewOf } from './twin-view.js'

/** What is known when a step is planned. */
export interface PlanContext {
  readonly id: TwinId
  /** For the event: above every stamp of the twin before, µs. */
  readonly stamp: number
  readonly rules: TwinRules
  readonly limits: TwinLimits
  /** Tags that the registry has of a device whose twin is made by this step. */
  readonly tagsBefore: Readonly<Record<string, string>>
}

export type Plan =
  | { readonly kind: 'step', readonly draft: EventDraft }
  | { readonly kind: 'unchanged' }
  | { readonly kind: 'precondition_failed' }
  | { readonly kind: 'refused', readonly refusal: Refusal }

const refuse = (refusal: Refusal): Plan => ({ kind: 'refused', refusal })

/** An operator's or application's change. */
export function planChange (state: TwinState, change: TwinChange, actor: Actor, context: PlanContext): Plan {
  const { ifVersion = null, condition, replace = false, reason = '' } = change
  if (ifVersion !== null && ifVersion !== state.version) return { kind: 'precondition_failed' }
  if (condition !== undefined && !condition(viewOf(context.id, state))) return { kind: 'precondition_failed' }
  const wrong = checkChange(change, context)
  if (wrong !== null) return refuse(wrong)
  const patch: { desired?: JsonObject, tags?: Record<string, string | null> } = {}
  if (change.desired !== undefined) {
    const desired = mergePatch(replace ? {} : state.desired, change.desired)
    const bad = checkSize('desired', desired, context.limits) ?? checkRules('desired', desired, context.rules)
    if (bad !== null) return refuse(bad)
    const step = diffPatch(state.desired, desired)
    if (!isEmpty(step)) patch.desired = step
  }
  const tagsBefore = state.alive ? state.tags : context.tagsBefore
  const tags = change.tags === undefined ? tagsBefore : mergePatch(replace ? {} : tagsBefore, change.tags) as Readonly<Record<string, string>>
  const bad = change.tags === undefined ? null : checkTags(tags, context.limits)
  if (bad !== null) return refuse(bad)
  const step = diffPatch(state.tags, tags) as Record<string, string | null>
  if (!isEmpty(step)) patch.tags = step
  if (isEmpty(patch)) return { kind: 'unchanged' }
  return { kind: 'step', draft: { stamp: context.stamp, kind: state.alive ? 'changed' : 'created', actor, reason, patch } }
}

function checkChange ({ desired, tags, reason = '' }: TwinChange, { id, limits }: PlanContext): Refusal | null {
  if (reason.length > reasonCharsMax) return { code: 'invalid_field', detail: `/reason has ${reason.length} characters; ${reasonCharsMax} are allowed`, field: '/reason' }
  if (tags !== undefined && id.name !== '') return { code: 'invalid_field', detail: '/tags: tags belong to the device, not to a named twin', field: '/tags' }
  return desired === undefined ? null : checkShape(desired, '/desired', limits)
}

function checkRules (part: 'desired' | 'reported', state: JsonObject, rules: TwinRules): Refusal | null {
  const wrong = rules.check(part, state)
  return wrong === null ? null : { code: 'invalid_field', detail: wrong, field: `/${part}` }
}

/** What a device reports. */
export interface ReportSource {
  readonly report: Report
  readonly from: { readonly journalId: string, readonly position: number, readonly stamp: number }
  readonly actor: Actor
  readonly byStamp: boolean
}

/** Refusal codes of `Refusal` tell size from shape; `rules`: the model's schema. */
export type ReportPlan = Plan | { readonly kind: 'refused_by_rules', readonly detail: string }

export function planReport (state: TwinState, { report, from, actor, byStamp }: ReportSource, context: PlanContext): ReportPlan {
  // Said before the twin was deleted: it was about the one before.
  if (from.stamp < state.floor) return { kind: 'unchanged' }
  const { patch: reported, over } = winningPatch(state, report, from.stamp, byStamp)
  if (isEmpty(reported) && over.length === 0) return { kind: 'unchanged' }
  const after = mergePatch(state.reported, reported)
  const tooLarge = checkSize('reported', after, context.limits)
  if (tooLarge !== null) return refuse(tooLarge)
  // The pieces of a patch may be shallow and their sum not: depth is of the result.
  const tooDeep = checkShape(after, '/reported', context.limits)
  if (tooDeep !== null) return refuse(tooDeep)
  const wrong = context.rules.check('reported', after)
  if (wrong !== null) return { kind: 'refused_by_rules', detail: wrong }
  const tags = diffPatch(state.tags, state.alive ? state.tags : context.tagsBefore) as Record<string, string | null>
  const desired = takenOver(state, reported, report, from.stamp, context)
  return {
    kind: 'step',
    draft: {
      stamp: context.stamp,
      kind: state.alive ? 'changed' : 'created',
      actor,
      reason: '',
      patch: { ...(desired === null ? {} : { desired }), ...(isEmpty(reported) ? {} : { reported }), ...(isEmpty(tags) ? {} : { tags }) },
      from,
      ...(over.length === 0 ? {} : { over }),
      ...(report.at === null ? {} : { at: report.at }),
      ...(report.v === null ? {} : { v: report.v })
    }
  }
}

/** Desired state takes the device's values where the policy says so, unless they would break a limit or the model's rules there. */
function takenOver (state: TwinState, reported: JsonObject, report: Report, stamp: number, { rules, limits }: PlanContext): JsonObject | null {
  const taken = desiredAfterReport(state, reported, report.at ?? stamp, rules.conflicts)
  if (taken === null) return null
  const after = mergePatch(state.desired, taken)
  const step = diffPatch(state.desired, after)
  return isEmpty(step) || checkSize('desired', after, limits) !== null || rules.check('desired', after) !== null ? null : step
}

export function planDelete (state: TwinState, actor: Actor, stamp: number): Plan {
  return state.alive ? { kind: 'step', draft: { stamp, kind: 'deleted', actor, reason: '', patch: {} } } : { kind: 'unchanged' }
}

/** The list of named twins, on the device's own twin. */
export function planName (state: TwinState, name: string, is: 'added' | 'removed', actor: Actor, context: PlanContext): Plan {
  if (state.names.includes(name) === (is === 'added')) return { kind: 'unchanged' }
  if (is === 'added' && state.names.length >= context.limits.namesMax) {
    return refuse({ code: 'limit_reached', detail: `the device has ${state.names.length} named twins; ${context.limits.namesMax} are allowed`, field: '/name' })
  }
  const tags = state.alive ? {} : diffPatch({}, context.tagsBefore) as Record<string, Json> as Record<string, string | null>
  return { kind: 'step', draft: { stamp: context.stamp, kind: state.alive ? 'changed' : 'created', actor, reason: '', patch: isEmpty(tags) ? {} : { tags }, named: { name, is } } }
}
