/**
 * What may be told of a database whose rows are encrypted. The values of its settings may not: ALTER DATABASE … SET is where applications
 * keep keys (PostgREST's `app.settings.jwt_secret`), and a comment is anybody's note.
 */
import type { SourceFacts } from '../engine.ts';

/** See `Engine.publicFacts`. */
export function publicFacts(source: SourceFacts): SourceFacts {
  const { details } = source;
  if (typeof details !== 'object' || details === null || !('settings' in details)) return source;
  const { settings, comment } = details;
  const missed = (Array.isArray(settings) && settings.length > 0) || typeof comment === 'string';
  if (!missed) return source;
  return {
    ...source,
    details: { ...details, settings: [], comment: null },
    warnings: [
      ...source.warnings,
      "The database's own settings (ALTER DATABASE … SET) and its comment are not in the backup, since its sidecar is not encrypted: set them again on a database that a restore creates.",
    ],
  };
}
