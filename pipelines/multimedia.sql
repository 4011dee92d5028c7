-- The default pipeline: what viewers do, enriched, landed in every store, and counted live.
--
-- The language is PostgreSQL's. Three things are particular to a stream: TUMBLE(rows, time, width) cuts time into
-- windows, WITH (…) says where a table lives, and nothing in here may depend on the clock (now() is refused), so that
-- the same log always gives the same answers.

-- ── In ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

-- One event per record of the topic. Columns are read from the JSON field of the same name, or the one named in
-- `fields`. Besides these, every source has raw, topic, partition, "offset", ingested_at, ingest_id, source_address and
-- source_user_agent: they are not part of `*`, but may be named.
CREATE TABLE multimedia_events (
  id          TEXT        NOT NULL, -- made by the sender; the same id is the same event
  event_time  TIMESTAMPTZ NOT NULL, -- when it happened, by the sender's clock
  type        TEXT        NOT NULL, -- page_view, play, heartbeat, pause, …: an open vocabulary
  user_id     TEXT        NOT NULL,
  session_id  TEXT,                 -- one sitting of one user
  content_id  TEXT,                 -- what is watched or heard: a key of the catalogue
  position_ms BIGINT,               -- where in the content
  watched_ms  BIGINT,               -- played since the last event of the session
  ip          TEXT,                 -- where the payload says so; the connection's address otherwise, see below
  user_agent  TEXT,
  metadata    JSON                  -- free-form; stays JSON text
) WITH (
  connector = 'log',
  topic = '${topic}',               -- the default topic: from the configuration or KAFKA_TOPIC
  format = 'json',
  fields = 'event_time=timestamp, user_id=user, session_id=session, content_id=content',
  dedup_key = 'id',                 -- an id seen before is dropped ahead of everything below…
  dedup_window = '${dedup_window}',  -- …if that was at most this long ago, by ingest time
  watermark = 'event_time',         -- event time has reached the highest event_time seen…
  watermark_delay = '10 seconds',   -- …less this, in the partition that is furthest behind…
  idle_timeout = '30 seconds'       -- …leaving out those that have been silent for this long
);

-- What there is to watch: read once at the start, looked up by its key.
CREATE TABLE catalogue (
  content_id  TEXT PRIMARY KEY,
  title       TEXT,
  artist      TEXT,
  genre       TEXT,
  duration_ms BIGINT
) WITH (connector = 'file', path = 'builtin:catalogue', format = 'json');

-- ── On the way ──────────────────────────────────────────────────────────────────────────────────────────────────────

-- The address and the user agent of the event: what the payload says wins over the connection it came by.
CREATE VIEW addressed AS
SELECT *,
  coalesce(ip, source_address)            AS address,
  coalesce(user_agent, source_user_agent) AS agent,
  ingested_at,
  ingest_id
FROM multimedia_events;

-- An enriched event: computed once, read by everything below.
CREATE VIEW enriched AS
SELECT
  e.id, e.event_time, e.type, e.user_id, e.session_id, e.content_id, e.position_ms, e.watched_ms,
  e.address                         AS ip,
  e.agent                           AS user_agent,
  e.metadata,
  geoip_country(e.address)          AS country,   -- ISO code; null where the address is in no country's range
  ua_device(e.agent)                AS device,    -- families by uap-core: 'iPhone', 'Mac', 'Other'
  ua_os(e.agent)                    AS os,
  ua_browser(e.agent)               AS browser,
  c.title, c.artist, c.genre, c.duration_ms,      -- null where the content is not in the catalogue
  e.ingested_at,                                  -- when the log took it
  e.ingest_id,                                    -- its place in the log: topic/partition/offset
  CAST(e.event_time AS DATE)        AS date       -- UTC: what the lake is partitioned by
FROM addressed e
LEFT JOIN catalogue c ON e.content_id = c.content_id;

-- ── Out ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

-- All history, columnar. Committed when either limit is reached (bytes of the rows as they are in memory); until then
-- queries compute the rest from the log.
CREATE TABLE lake_events WITH (
  connector = 'lake', table = 'events',
  commit_interval = '60 seconds', commit_bytes = '128 MB'
);
INSERT INTO lake_events SELECT * FROM enriched;

-- The events byte for byte as they were sent: what a later pipeline can be rebuilt from.
CREATE TABLE lake_raw WITH (
  connector = 'lake', table = 'events_raw',
  commit_interval = '60 seconds', commit_bytes = '128 MB'
);
INSERT INTO lake_raw
SELECT event_time, topic, partition, "offset", ingested_at, raw, CAST(event_time AS DATE) AS date
FROM multimedia_events;

-- Rows by key, in PostgreSQL or the embedded SQLite.
CREATE TABLE table_events WITH (
  connector = 'tables', table = 'events', primary_key = 'id', index = 'event_time',
  json = 'metadata'                 -- jsonb in PostgreSQL
);
INSERT INTO table_events SELECT * FROM enriched;

-- The newest by key, in Redis or in process.
CREATE TABLE cache_events WITH (connector = 'cache', key = 'event:{id}', ttl = '${cache_ttl}');
INSERT INTO cache_events SELECT * FROM enriched;

-- ── Live ────────────────────────────────────────────────────────────────────────────────────────────────────────────
--
-- A materialized view is up to date after every epoch. A row whose window ended more than allowed_lateness before the
-- watermark goes to late_events instead; a group is dropped when no row has come for it during `retention`.

-- How many different users each day had (UTC), however late the news arrive.
CREATE MATERIALIZED VIEW unique_users_per_day
WITH (allowed_lateness = 'unlimited', retention = '400 days') AS
SELECT
  CAST(window_start AS DATE) AS day,
  count(DISTINCT user_id)    AS users
FROM TUMBLE(enriched, event_time, INTERVAL '1' DAY)
GROUP BY window_start, window_end;

-- Who is watching what: sessions that played or gave a sign of life, in windows of ten seconds.
CREATE MATERIALIZED VIEW concurrent_viewers
WITH (allowed_lateness = '30 seconds', retention = '10 minutes') AS
SELECT
  window_start, window_end, content_id, title,
  count(DISTINCT session_id) AS viewers
FROM TUMBLE(enriched, event_time, INTERVAL '10' SECOND)
WHERE type IN ('play', 'heartbeat') AND content_id IS NOT NULL
GROUP BY window_start, window_end, content_id, title;

-- How long each content was watched each day, and by how many.
CREATE MATERIALIZED VIEW watch_time
WITH (allowed_lateness = 'unlimited', retention = '400 days') AS
SELECT
  CAST(window_start AS DATE) AS day,
  content_id, title,
  sum(watched_ms)            AS watched_ms,
  count(DISTINCT user_id)    AS viewers
FROM TUMBLE(enriched, event_time, INTERVAL '1' DAY)
WHERE content_id IS NOT NULL AND watched_ms IS NOT NULL
GROUP BY window_start, window_end, content_id, title;

-- What happened each day, by kind.
CREATE MATERIALIZED VIEW events_by_type
WITH (allowed_lateness = 'unlimited', retention = '400 days') AS
SELECT
  CAST(window_start AS DATE) AS day,
  type,
  count(*)                   AS events
FROM TUMBLE(enriched, event_time, INTERVAL '1' DAY)
GROUP BY window_start, window_end, type;
