/**
 * Port: the partition plan of a device (DESIGN 3.3). Salts only grow; widths change only for event times ahead.
 * A device without a row has `defaultPlan`. All changes are conditional on the version read.
 */
import type { PartitionPlan } from '../series/partition-plan.js'

export interface VersionedPlan {
  readonly plan: PartitionPlan
  /** 0: no row yet. */
  readonly version: number
}

export interface PlanStore {
  getPlan(tenant: string, device: string): Promise<VersionedPlan>
  /** Writes the plan as version + 1. False when the stored version is another one; nothing is changed then. */
  putPlanIfVersion(tenant: string, device: string, plan: PartitionPlan, version: number): Promise<boolean>
}
