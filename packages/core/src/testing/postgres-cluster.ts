/**
 * Throwaway PostgreSQL servers for tests, benchmarks and the demo: a private folder, a free port, passwords, nothing left behind.
 *
 * The server is the child of a small shell that holds the read end of a pipe from this process. When the pipe closes, because
 * `stop()` closed it or because this process died in whatever way, the shell ends the server and removes the folder. Should the
 * shell itself be killed (a machine that goes down), the next start on that machine removes what is left.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { access, chown, copyFile, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, relative } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';

const run = promisify(execFile);

export interface ClusterOptions {
  /** Major version of the server; default: the one in CELLAR_TEST_POSTGRES_MAJOR, else the newest that is installed. */
  readonly major?: number;
  /** Default `UTF8`. */
  readonly encoding?: string;
  /** Default `C.UTF-8`; with another encoding than UTF8 `C`. */
  readonly locale?: string;
  /** Server settings, over the defaults for speed below. */
  readonly settings?: Readonly<Record<string, string | number>>;
  /** Extensions of one's own, as name → text of their control and SQL files. Nothing is written into the installed server. */
  readonly extensionFiles?: Readonly<Record<string, string>>;
  /** Keep the folder when the server stops. */
  readonly keep?: boolean;
  /** Where the cluster's folder is made; default: the system's temporary folder. The user `postgres` must be able to reach it. */
  readonly parentFolder?: string;
}

/** All that is needed to use a running cluster, as plain data: it can be handed to another process. */
export interface ClusterAddress {
  readonly major: number;
  /** The folder of `postgres`, `pg_dump`, `psql` and their kin. */
  readonly binaries: string;
  readonly folder: string;
  readonly port: number;
  /** Password of the superuser `postgres`. */
  readonly password: string;
}

export interface CreateDatabaseOptions {
  /** Default `template0`. */
  readonly template?: string;
  readonly owner?: string;
  /** Further clauses, e.g. `ENCODING 'LATIN1' LOCALE 'C'`. */
  readonly clauses?: string;
}

/** A running cluster that somebody else owns. */
export interface ClusterHandle extends ClusterAddress {
  /** A URL over TCP with a password. Users other than `postgres` need theirs given. */
  url(database?: string, user?: string, password?: string): string;
  /** The same over the unix socket. */
  socketUrl(database?: string, user?: string, password?: string): string;
  /** PGHOST, PGPASSWORD and so on, to run the stock tools with. */
  environment(database?: string): Record<string, string>;
  /** Creates a database, by default under a fresh name, and returns its name. */
  createDatabase(name?: string, options?: CreateDatabaseOptions): Promise<string>;
  /** Drops a database if it is there, ending its sessions first. */
  dropDatabase(name: string): Promise<void>;
  /** Runs SQL, of several statements if need be, by psql, and returns what it prints (unaligned, tuples only). Stops at the first error. */
  psql(sql: string, database?: string): Promise<string>;
  psqlFile(path: string, database?: string): Promise<string>;
  /** Runs one statement (or, without values, several) on a connection of its own and returns its rows. */
  query<Row extends pg.QueryResultRow = pg.QueryResultRow>(
    sql: string,
    database?: string,
    values?: readonly unknown[],
  ): Promise<Row[]>;
  /** Holds a lock of that name, across processes, until disposed. */
  lock(name: string): Promise<AsyncDisposable>;
  /** The server's log so far. */
  log(): Promise<string>;
}

/** A running cluster of one's own. */
export interface Cluster extends ClusterHandle, AsyncDisposable {
  /** Process id of the postmaster. */
  readonly pid: number;
  /** Ends the server at once and removes its folder. May be called twice. */
  stop(): Promise<void>;
}

const SETTINGS: Readonly<Record<string, string | number>> = {
  fsync: 'off',
  full_page_writes: 'off',
  synchronous_commit: 'off',
  shared_buffers: '128MB',
  max_wal_size: '4GB',
  checkpoint_timeout: '1h',
  max_connections: 100,
  max_prepared_transactions: 10,
  wal_level: 'logical',
  autovacuum: 'off',
  log_min_messages: 'warning',
  log_line_prefix: '%m [%p] %u@%d ',
};

const FOLDER_PREFIX = 'cellar-postgres-';
const KEPT_FOLDER_PREFIX = 'cellar-kept-postgres-';

/**
 * $1 binaries, $2 the cluster's folder, $3 the signal to end the server with, $4 `keep` or `remove`.
 * Prints the server's process id, and `exited` when it has ended; nobody may be left to read that, hence the ignored SIGPIPE.
 */
const SUPERVISOR = `
exec 3<&0
echo $$ >"$2/supervisor.pid"
"$1/postgres" -D "$2/data" >>"$2/log" 2>&1 </dev/null 3<&- &
server=$!
echo "server $server"
( read -r _ <&3; kill -s "$3" "$server" 2>/dev/null ) &
watcher=$!
trap '' PIPE
wait "$server"
echo exited
wait "$watcher"
rm -f "$2/supervisor.pid"
[ "$4" = keep ] || rm -rf "$2"
`;

/** Starts a server of its own. Throws with the server's own words when it does not come up. */
export async function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const { major, folder: binaries } = await findServer(options.major);
  const parent = options.parentFolder ?? tmpdir();
  await removeStaleClusters(parent);
  const identity = await serverIdentity();
  const prefix = options.keep ? KEPT_FOLDER_PREFIX : FOLDER_PREFIX;
  const folder = await mkdtemp(join(parent, prefix));
  try {
    const password = randomBytes(12).toString('hex');
    await initialise(binaries, folder, password, options, identity);
    const server = options.extensionFiles ? await extendedServer(binaries, folder, options.extensionFiles) : binaries;
    for (let attempt = 1; ; attempt++) {
      const port = await freePort();
      const settings = {
        ...SETTINGS,
        listen_addresses: '127.0.0.1',
        port,
        unix_socket_directories: folder,
        ...options.settings,
      };
      const lines = Object.entries(settings).map(
        ([name, value]) => `${name} = '${String(value).replaceAll("'", "''")}'`,
      );
      await writeFile(join(folder, 'data', 'postgresql.auto.conf'), `${lines.join('\n')}\n`);
      const address: ClusterAddress = { major, binaries, folder, port, password };
      try {
        return await startServer(address, server, options.keep ?? false, identity);
      } catch (error) {
        // Somebody else took the port between our looking for it and the server's binding it.
        if (attempt < 4 && error instanceof Error && /could not (bind|create any TCP)/.test(error.message)) continue;
        throw error;
      }
    }
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

/** Uses a running cluster by its address, without owning it. */
export function connectCluster(address: ClusterAddress): ClusterHandle {
  const { major, binaries, folder, port, password } = address;
  const credentials = (user: string, ownPassword: string | undefined): string => {
    const secret = ownPassword ?? (user === 'postgres' ? password : undefined);
    return secret === undefined
      ? encodeURIComponent(user)
      : `${encodeURIComponent(user)}:${encodeURIComponent(secret)}`;
  };
  const environment = (database = 'postgres'): Record<string, string> => ({
    PATH: [binaries, '/usr/local/bin', '/usr/bin', '/bin'].join(delimiter),
    PGHOST: folder,
    PGPORT: String(port),
    PGUSER: 'postgres',
    PGPASSWORD: password,
    PGDATABASE: database,
    LC_ALL: 'C.UTF-8',
  });
  const connect = async (database: string): Promise<pg.Client> => {
    const client = new pg.Client({ host: folder, port, user: 'postgres', password, database });
    await client.connect();
    return client;
  };
  const query: ClusterHandle['query'] = async (sql, database = 'postgres', values) => {
    const client = await connect(database);
    try {
      const result: unknown = await client.query(sql, values === undefined ? undefined : [...values]);
      // Several statements give an array of results: the last one's rows are the answer.
      const last: unknown = Array.isArray(result) ? result.at(-1) : result;
      return (last as pg.QueryResult).rows;
    } finally {
      await client.end();
    }
  };
  const psqlArguments = ['--no-psqlrc', '--quiet', '--no-align', '--tuples-only', '--set=ON_ERROR_STOP=1'];
  return {
    major,
    binaries,
    folder,
    port,
    password,
    url: (database = 'postgres', user = 'postgres', ownPassword) =>
      `postgres://${credentials(user, ownPassword)}@127.0.0.1:${port}/${encodeURIComponent(database)}`,
    socketUrl: (database = 'postgres', user = 'postgres', ownPassword) =>
      `postgres://${credentials(user, ownPassword)}@/${encodeURIComponent(database)}?host=${encodeURIComponent(folder)}&port=${port}`,
    environment,
    query,
    createDatabase: async (name = `db_${randomBytes(6).toString('hex')}`, options = {}) => {
      const owner = options.owner === undefined ? '' : ` OWNER ${pg.escapeIdentifier(options.owner)}`;
      await query(
        `CREATE DATABASE ${pg.escapeIdentifier(name)} TEMPLATE ${pg.escapeIdentifier(options.template ?? 'template0')}${owner} ${options.clauses ?? ''}`,
      );
      return name;
    },
    dropDatabase: async (name) => {
      await query(`DROP DATABASE IF EXISTS ${pg.escapeIdentifier(name)} WITH (FORCE)`);
    },
    psql: async (sql, database) =>
      await runWithInput(join(binaries, 'psql'), [...psqlArguments, '--file=-'], environment(database), sql),
    psqlFile: async (path, database) =>
      await runWithInput(join(binaries, 'psql'), [...psqlArguments, `--file=${path}`], environment(database), ''),
    lock: async (name) => {
      const client = await connect('postgres');
      await client.query('SELECT pg_advisory_lock(hashtextextended($1, 0))', [name]);
      return { [Symbol.asyncDispose]: async () => await client.end() };
    },
    log: async () => await readFile(join(folder, 'log'), 'utf8'),
  };
}

/** The server binaries there are, newest first: in the folders of CELLAR_TEST_POSTGRES_BIN, where Debian keeps them, on PATH. */
export async function installedServers(): Promise<{ readonly major: number; readonly folder: string }[]> {
  const found = new Map<number, string>();
  const extra = (process.env['CELLAR_TEST_POSTGRES_BIN'] ?? '').split(delimiter).filter((folder) => folder !== '');
  const packaged = (await readdir('/usr/lib/postgresql').catch(() => [])).map(
    (name) => `/usr/lib/postgresql/${name}/bin`,
  );
  const path = (process.env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '');
  for (const folder of [...extra, ...packaged, ...path]) {
    const binary = join(folder, 'postgres');
    if (!(await isExecutable(binary)) || !(await isExecutable(join(folder, 'initdb')))) continue;
    const { stdout } = await run(binary, ['--version']);
    const major = Number(/\(PostgreSQL\) (\d+)/.exec(stdout)?.[1]);
    if (Number.isInteger(major) && !found.has(major)) found.set(major, folder);
  }
  return [...found].map(([major, folder]) => ({ major, folder })).sort((a, b) => b.major - a.major);
}

async function findServer(chosen: number | undefined): Promise<{ readonly major: number; readonly folder: string }> {
  const preset = process.env['CELLAR_TEST_POSTGRES_MAJOR'];
  const major = chosen ?? (preset === undefined ? undefined : Number(preset));
  const servers = await installedServers();
  const server = major === undefined ? servers[0] : servers.find((candidate) => candidate.major === major);
  if (server !== undefined) return server;
  const wanted = major === undefined ? 'PostgreSQL server' : `PostgreSQL ${major} server`;
  throw new Error(
    `No ${wanted} was found in /usr/lib/postgresql/*/bin or on PATH. On Debian or Ubuntu: apt-get install postgresql${major === undefined ? '' : `-${major}`}.`,
  );
}

interface Identity {
  readonly uid?: number;
  readonly gid?: number;
}

/** Servers refuse to run as root: then they run as the user `postgres`, whom the server's package creates. */
async function serverIdentity(): Promise<Identity> {
  if (process.getuid?.() !== 0) return {};
  const line = (await readFile('/etc/passwd', 'utf8')).split('\n').find((entry) => entry.startsWith('postgres:'));
  if (line === undefined)
    throw new Error('PostgreSQL does not run as root, and there is no user "postgres" to run it as.');
  const fields = line.split(':');
  return { uid: Number(fields[2]), gid: Number(fields[3]) };
}

async function initialise(
  binaries: string,
  folder: string,
  password: string,
  options: ClusterOptions,
  identity: Identity,
): Promise<void> {
  const passwordFile = join(folder, 'password');
  await writeFile(passwordFile, `${password}\n`, { mode: 0o600 });
  if (identity.uid !== undefined && identity.gid !== undefined) {
    await chown(folder, identity.uid, identity.gid);
    await chown(passwordFile, identity.uid, identity.gid);
  }
  const encoding = options.encoding ?? 'UTF8';
  const locale = options.locale ?? (encoding === 'UTF8' ? 'C.UTF-8' : 'C');
  await run(
    join(binaries, 'initdb'),
    [
      `--pgdata=${join(folder, 'data')}`,
      '--username=postgres',
      `--pwfile=${passwordFile}`,
      '--auth=scram-sha-256',
      `--encoding=${encoding}`,
      `--locale=${locale}`,
      '--no-sync',
    ],
    { cwd: folder, env: { PATH: `${binaries}:/usr/bin:/bin`, LC_ALL: 'C' }, ...identity },
  );
  await rm(passwordFile);
}

/**
 * A server looks for extensions relative to its own executable. So this lays out, in the cluster's folder, the installation's tree
 * again: a copy of the executable, links to everything else, and the extensions' files among the links.
 * @returns the folder of the executable.
 */
async function extendedServer(
  binaries: string,
  folder: string,
  extensionFiles: Readonly<Record<string, string>>,
): Promise<string> {
  const config = async (name: string): Promise<string> =>
    (await run(join(binaries, 'pg_config'), [`--${name}`])).stdout.trim();
  // Installations can be moved, and not every pg_config knows: only where the folders lie from each other is taken from it.
  const bin = await config('bindir');
  const share = join(binaries, relative(bin, await config('sharedir')));
  const libraries = join(binaries, relative(bin, await config('pkglibdir')));
  let root = dirname(binaries);
  while (!share.startsWith(`${root}/`) || !libraries.startsWith(`${root}/`)) root = dirname(root);
  const tree = join(folder, 'installation');
  const at = (path: string): string => join(tree, relative(root, path));
  await mkdir(at(binaries), { recursive: true });
  await copyFile(join(binaries, 'postgres'), join(at(binaries), 'postgres'));
  await mkdir(dirname(at(libraries)), { recursive: true });
  await symlink(libraries, at(libraries));
  await linkEach(share, at(share), 'extension');
  await linkEach(join(share, 'extension'), join(at(share), 'extension'));
  for (const [name, text] of Object.entries(extensionFiles)) {
    await writeFile(join(at(share), 'extension', name), text);
  }
  return at(binaries);
}

async function linkEach(from: string, to: string, except?: string): Promise<void> {
  await mkdir(to, { recursive: true });
  for (const name of await readdir(from)) {
    if (name !== except) await symlink(join(from, name), join(to, name));
  }
}

async function startServer(
  address: ClusterAddress,
  server: string,
  keep: boolean,
  identity: Identity,
): Promise<Cluster> {
  const { folder } = address;
  const supervisor = spawn(
    '/bin/sh',
    // A kept cluster is shut down in order; a thrown-away one at once.
    ['-c', SUPERVISOR, 'cellar-postgres', server, folder, keep ? 'INT' : 'QUIT', keep ? 'keep' : 'remove'],
    {
      cwd: folder,
      env: { PATH: `${address.binaries}:/usr/bin:/bin`, LC_ALL: 'C' },
      stdio: ['pipe', 'pipe', 'ignore'],
      detached: true,
      ...identity,
    },
  );
  const ended = new Promise<void>((resolve) => {
    supervisor.once('close', () => resolve());
  });
  let output = '';
  supervisor.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  const handle = connectCluster(address);
  const deadline = Date.now() + 60_000;
  for (;;) {
    if (output.includes('exited') || supervisor.exitCode !== null || Date.now() > deadline) {
      const log = await handle.log().catch(() => '');
      supervisor.stdin.end();
      await ended;
      throw new Error(`PostgreSQL did not start:\n${log.slice(-4000)}`);
    }
    if (output.includes('server') && (await answers(handle))) break;
    await delay(20);
  }
  // Neither the child nor its pipes keep this process alive: when it ends, the server ends.
  setReferenced(supervisor, false);
  let stopped: Promise<void> | undefined;
  const stop = async (): Promise<void> => {
    stopped ??= (async () => {
      setReferenced(supervisor, true);
      supervisor.stdin.end();
      await ended;
    })();
    await stopped;
  };
  const pid = Number(/server (\d+)/.exec(output)?.[1]);
  return { ...handle, pid, stop, [Symbol.asyncDispose]: stop };
}

async function answers(handle: ClusterHandle): Promise<boolean> {
  try {
    await handle.query('SELECT 1');
    return true;
  } catch {
    return false;
  }
}

function setReferenced(child: ChildProcess, referenced: boolean): void {
  for (const part of [child, child.stdin, child.stdout] as readonly unknown[]) {
    const handle = part as { ref?(): void; unref?(): void };
    if (referenced) handle.ref?.();
    else handle.unref?.();
  }
}

/** Removes the folders of clusters whose supervisor is dead, ending a server that outlived it. */
async function removeStaleClusters(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    if (!name.startsWith(FOLDER_PREFIX)) continue;
    const folder = join(parent, name);
    const supervisor = await readPid(join(folder, 'supervisor.pid'));
    // No such file: a cluster that is just being made, or one of another user that we cannot look into.
    if (supervisor === undefined || (await runsFor(folder, supervisor))) continue;
    const server = await readPid(join(folder, 'data', 'postmaster.pid'));
    if (server !== undefined && (await runsFor(folder, server))) {
      process.kill(server, 'SIGQUIT');
      for (let waited = 0; waited < 100 && (await runsFor(folder, server)); waited++) await delay(50);
    }
    await rm(folder, { recursive: true, force: true }).catch(() => undefined);
  }
}

async function readPid(path: string): Promise<number | undefined> {
  const text = await readFile(path, 'utf8').catch(() => '');
  const pid = Number.parseInt(text, 10);
  return Number.isInteger(pid) && pid > 1 ? pid : undefined;
}

/** Whether that process lives and is the folder's: numbers are used again, and one that nobody has waited for has no command line. */
async function runsFor(folder: string, pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => undefined);
  return commandLine === undefined || commandLine.includes(folder);
}

async function isExecutable(path: string): Promise<boolean> {
  return await access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

/** A TCP port on 127.0.0.1 that nobody listens on right now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('No free TCP port was found.');
  return address.port;
}

async function runWithInput(
  command: string,
  args: readonly string[],
  env: Record<string, string>,
  input: string,
): Promise<string> {
  const child = spawn(command, args, { env, stdio: ['pipe', 'pipe', 'pipe'] });
  const output: Buffer[] = [];
  const errors: Buffer[] = [];
  child.stdout.on('data', (part: Buffer) => output.push(part));
  child.stderr.on('data', (part: Buffer) => errors.push(part));
  // The tool may stop reading at an error; its exit code and words tell more than EPIPE.
  child.stdin.on('error', () => undefined).end(input);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject).once('close', resolve);
  });
  if (code !== 0) throw new Error(`${command} exited with ${code}:\n${Buffer.concat(errors).toString().slice(-4000)}`);
  return Buffer.concat(output).toString();
}
