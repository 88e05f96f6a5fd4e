/**
 * What a device's model says about its twin (twin-model.ts), found by the type that the registry knows of the device. Answers are
 * remembered for a lease, so no change waits as a rule: a change of a model or of a device's type through another node is followed when
 * the lease has run out, one through this node at once. While the store is away, known answers serve on (gate/lease-cache.ts).
 *
 * Bounded: the devices and models used last. A model that is not used any more goes with its compiled checks.
 */
import type { Clock } from '../core/clock.js'
import { registryStaleMsMax } from '../core/limits.js'
import { LeaseCache } from '../gate/lease-cache.js'
import type { RegistryStore } from '../store/registry.js'
import type { TwinRules, TwinRulesSource } from '../twin/twin-model.js'
import type { Model } from './model.js'
import { compileState } from './state-check.js'
import type { ViolationLog } from './violation-log.js'

export interface ModelRulesOptions {
  readonly registry: Pick<RegistryStore, 'getDevice'>
  readonly models: { get (tenant: string, type: string): Promise<{ readonly model: Model } | null> }
  readonly violations: Pick<ViolationLog, 'note'>
  readonly clock: Clock
  /** Default 5,000. */
  readonly leaseMs?: number
  /** Default 200,000. */
  readonly devicesMax?: number
  /** Compiled models; default 500. */
  readonly modelsMax?: number
}

type RulesFor = (tenant: string, device: string) => TwinRules

/** Of devices whose type has no model. */
const plainRules: TwinRules = { conflicts: 'cloud', check: () => null }
const plainRulesFor: RulesFor = () => plainRules

export class ModelRules implements TwinRulesSource {
  readonly #options: ModelRulesOptions
  /** Type by `tenant \0 device`; '' for none. */
  readonly #types: LeaseCache<string>
  readonly #rules: LeaseCache<RulesFor>
  readonly stats = { compiled: 0, refused: 0, flagged: 0 }

  constructor (options: ModelRulesOptions) {
    this.#options = options
    const { leaseMs = 5000, devicesMax = 200_000, modelsMax = 500, clock } = options
    const cache = { leaseMs, staleMsMax: registryStaleMsMax, monotonicMs: () => clock.monotonicMs() }
    this.#types = new LeaseCache({ ...cache, rememberedMax: devicesMax, isUnknown: type => type === '' })
    this.#rules = new LeaseCache({ ...cache, rememberedMax: modelsMax, isUnknown: rules => rules === plainRulesFor })
  }

  async rulesOf (tenant: string, device: string): Promise<TwinRules> {
    const key = `${tenant}\0${device}`
    const type = this.#types.peek(key) ?? await this.#types.get(key, async () => (await this.#options.registry.getDevice(tenant, device))?.type ?? '')
    if (type === '') return plainRules
    const model = `${tenant}\0${type}`
    const rulesFor = this.#rules.peek(model) ?? await this.#rules.get(model, async () => await this.#read(tenant, type))
    return rulesFor(tenant, device)
  }

  /** The model was written through this node. */
  forgetModel (tenant: string, type: string): void { this.#rules.forget(`${tenant}\0${type}`) }

  /** The device was made, changed or deleted through this node. */
  forgetDevice (tenant: string, device: string): void { this.#types.forget(`${tenant}\0${device}`) }

  async #read (tenant: string, type: string): Promise<RulesFor> {
    const found = await this.#options.models.get(tenant, type)
    if (found === null) return plainRulesFor
    const { model } = found
    const { conflicts } = model
    const checks = { desired: model.desired && compileState(model.desired, 'desired'), reported: model.reported && compileState(model.reported, 'reported') }
    this.stats.compiled++
    if (checks.desired === undefined && checks.reported === undefined) {
      const rules: TwinRules = { conflicts, check: () => null }
      return () => rules
    }
    return (_tenant, device) => ({
      conflicts,
      check: (part, state) => {
        const fault = checks[part]?.(state) ?? null
        if (fault === null) return null
        this.#options.violations.note({ tenant, type, metric: '', kind: part, count: 1, device, value: fault, ts: this.#options.clock.nowUs() })
        if (model.onTwinViolation === 'refuse') {
          this.stats.refused++
          return fault
        }
        this.stats.flagged++
        return null
      }
    })
  }
}
