// Compiled against the packed package by packaging.test.mjs; never run.
import {
  MemoryStorage, Recommender, RecommenderError,
  type DeviceStorage, type ErrorCode, type FlushResult, type LoadOptions, type Recommendation, type Reason,
} from 'sanderling';
import { decodeRequest, encodeResponse } from 'sanderling/wire';
import 'sanderling/element';
import { ERROR_CODES } from 'sanderling/errors';
import { SharedSessions, type NotShared, type SharingOptions, type WaitingSession } from 'sanderling/sessions';

const storage: DeviceStorage = new MemoryStorage();
const options: LoadOptions = { baseUrl: '/bundle/', consent: 'share', collectorUrl: 'https://collector.example', storage };

export async function use(): Promise<string[]> {
  using recommender = await Recommender.load(options);
  recommender.observe({ itemId: 'a', kind: 'view' });
  const { recommendations, faults } = recommender.recommend({
    limit: 10,
    rules: { exclude: ['b'], excludeSeen: true, categoryCap: 2, diversity: 0.3, boosts: [{ categories: ['hats'], add: 0.5 }], pins: [{ itemId: 'c', position: 1 }], exploration: 0.05, filter: { categories: ['shoes'], maxPrice: 50 } },
    context: { page: 'home' },
    now: 1_700_000_000,
    seed: 1,
    deadlineMs: 5,
  });
  const similar: Recommendation[] = recommender.similar('a', { limit: 3 });
  recommender.recordOutcome({ position: 1 });
  const flushed: FlushResult = await recommender.telemetry.flush({ now: 1_700_000_000 });
  const { report, outbox } = await recommender.telemetry.preview();
  await recommender.setConsent('none');
  await recommender.erase();
  const body = encodeResponse(recommender.recommend(decodeRequest({})));
  return [...recommendations.map(describe), ...faults.map(({ code }) => code), String(similar.length), String(flushed.accepted), String(report), String(outbox.length), String(body)];
}

/** Frameworks pass what is not set. */
export function unset(limit: number | undefined, consent: 'none' | undefined): Promise<Recommender> {
  document.querySelector('sanderling-recommendations')?.addEventListener('sanderling:item', ({ detail }) => detail.element.append(detail.recommendation.itemId));
  return Recommender.load({ baseUrl: '/', consent, ...(limit !== undefined && { maxSessionLength: limit }) });
}

export async function inWorker(): Promise<string> {
  const recommender = await Recommender.inWorker('/bundle/');
  return `${await recommender.consent} ${(await recommender.session).length}`;
}

export async function share(recommender: Recommender): Promise<string[]> {
  const options: SharingOptions = { collectorUrl: 'https://collector.example', consent: 'sessions', maxDelaySeconds: 3600 };
  const sharing = await SharedSessions.start(recommender, options);
  const { waiting, notShared }: { waiting: WaitingSession[]; notShared: NotShared | null } = await sharing.preview();
  const { accepted } = await sharing.flush({ now: 1_700_000_000 });
  await sharing.setConsent('none');
  sharing.stop();
  return [...waiting.map(({ body }) => body), String(notShared), String(accepted)];
}

function describe({ itemId, reasons }: Recommendation): string {
  return `${itemId}: ${reasons.map(reasonText).join(', ')}`;
}

/** Every kind is handled: a new one would fail to compile here. */
function reasonText(reason: Reason): string {
  switch (reason.kind) {
    case 'similar_to':
      return `${reason.itemId} ${reason.similarity.toFixed(2)}`;
    case 'chosen_with':
      return `${reason.itemId} ${reason.weight.toFixed(2)}`;
    case 'category':
      return reason.category;
    case 'popular':
    case 'pinned':
      return reason.kind;
    default: {
      const never: never = reason;
      return never;
    }
  }
}

export function explain(thrown: unknown): string {
  if (!(thrown instanceof RecommenderError)) throw thrown;
  const code: ErrorCode = thrown.code;
  return `${ERROR_CODES[code]} ${thrown.details.hint ?? ''}`;
}

// What must not compile.
// @ts-expect-error a consent level that does not exist
export const wrongConsent: LoadOptions = { baseUrl: '/', consent: 'yes' };
// @ts-expect-error a consent to sharing is not that to reports
export const wrongSharing: SharingOptions = { collectorUrl: '/', consent: 'share' };
// @ts-expect-error the boundary's snake_case stays inside
export const wrongCase = (recommender: Recommender) => recommender.observe({ item_id: 'a', kind: 'view' });
// @ts-expect-error recommendations are for reading: their position is a number
export const wrongPosition: Recommendation = { itemId: 'a', position: '1', score: 0, source: 'retrieval', reasons: [] };
