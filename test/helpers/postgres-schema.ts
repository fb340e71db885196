/** What schema.prisma says and what a database has, in one form, so that a test can hold them against each other. */
import { query } from './postgres.js';

export interface Table {
  /** Column name to `type`, `type not null` or `type not null default …`. */
  columns: Record<string, string>;
  primaryKey: string;
  /** Index or constraint name to its columns. */
  uniques: Record<string, string>;
  indexes: Record<string, string>;
  /** Constraint name to `columns -> table(columns) on delete … on update …`. */
  foreignKeys: Record<string, string>;
}

const TYPES: Record<string, string> = {
  String: 'text',
  'String[]': 'text[]',
  Bytes: 'bytea',
  Json: 'jsonb',
  BigInt: 'bigint',
  Int: 'integer',
  Float: 'double precision',
  Boolean: 'boolean',
};

interface Field {
  name: string;
  type: string;
  optional: boolean;
  attributes: string;
}

interface Model {
  name: string;
  table: string;
  fields: Field[];
  blockAttributes: string[];
}

/** Reads the part of Prisma's schema language that our schema uses; anything else is an error, never overlooked. */
export function tablesOfSchema(schema: string): Record<string, Table> {
  const models = [...schema.matchAll(/^model (\w+) \{\n([\s\S]*?)^\}/gm)].map(([, name, body]) =>
    readModel(name, body),
  );
  return Object.fromEntries(models.map((model) => [model.table, tableOf(model, models)]));
}

function readModel(name: string, body: string): Model {
  const lines = body
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('//'));
  const blockAttributes = lines.filter((line) => line.startsWith('@@'));
  const fields = lines
    .filter((line) => !line.startsWith('@@'))
    .map((line) => {
      const match = /^(\w+)\s+(\w+)(\[\])?(\?)?\s*(.*)$/.exec(line);
      if (match === null) throw new Error(`Not understood in model ${name}: ${line}`);
      return { name: match[1], type: match[2] + (match[3] ?? ''), optional: match[4] === '?', attributes: match[5] };
    });
  const map = blockAttributes.map((line) => /^@@map\("(\w+)"\)$/.exec(line)?.[1]).find(Boolean);
  return { name, table: map ?? name, fields, blockAttributes };
}

function tableOf(model: Model, models: Model[]): Table {
  const isModel = (field: Field) => models.some(({ name }) => name === field.type.replace('[]', ''));
  const scalars = model.fields.filter((field) => !isModel(field));
  const columnsOf = (list: string, of: Model = model) =>
    list.split(',').map((name) => columnName(of.fields.find((field) => field.name === name.trim())!));
  const table: Table = { columns: {}, primaryKey: '', uniques: {}, indexes: {}, foreignKeys: {} };
  for (const field of scalars) {
    const column = columnName(field);
    table.columns[column] = columnOf(field, model.table);
    if (/@id\b/.test(field.attributes)) table.primaryKey = `${model.table}_pkey (${column})`;
    if (/@unique\b/.test(field.attributes)) table.uniques[`${model.table}_${column}_key`] = column;
  }
  for (const attribute of model.blockAttributes) {
    const [, kind, list] = /^@@(id|unique|index|map)\(\[?(.*?)\]?\)$/.exec(attribute) ?? [];
    if (kind === undefined) throw new Error(`Not understood in model ${model.name}: ${attribute}`);
    if (kind === 'map') continue;
    const columns = columnsOf(list);
    const name = `${model.table}_${columns.join('_')}`;
    if (kind === 'id') table.primaryKey = `${model.table}_pkey (${columns.join(', ')})`;
    if (kind === 'unique') table.uniques[`${name}_key`] = columns.join(', ');
    if (kind === 'index') table.indexes[`${name}_idx`] = columns.join(', ');
  }
  for (const field of model.fields.filter((candidate) => candidate.attributes.includes('@relation'))) {
    const relation = /@relation\(fields: \[(.*?)\], references: \[(.*?)\], onDelete: (\w+), onUpdate: (\w+)\)/.exec(
      field.attributes,
    );
    if (relation === null) throw new Error(`Not understood in model ${model.name}: ${field.attributes}`);
    const target = models.find(({ name }) => name === field.type)!;
    const columns = columnsOf(relation[1]);
    table.foreignKeys[`${model.table}_${columns.join('_')}_fkey`] =
      `${columns.join(', ')} -> ${target.table}(${columnsOf(relation[2], target).join(', ')}) ` +
      `on delete ${words(relation[3])} on update ${words(relation[4])}`;
  }
  return table;
}

function columnName(field: Field): string {
  return /@map\("(\w+)"\)/.exec(field.attributes)?.[1] ?? field.name;
}

function columnOf(field: Field, table: string): string {
  const timestamp = /@db\.Timestamptz\((\d)\)/.exec(field.attributes);
  const type = timestamp === null ? TYPES[field.type] : `timestamp(${timestamp[1]}) with time zone`;
  if (type === undefined) throw new Error(`Not understood in table ${table}: ${field.name} ${field.type}`);
  const given = /@default\((now\(\)|autoincrement\(\)|-?\d+|true|false)\)/.exec(field.attributes)?.[1];
  if (given === undefined && field.attributes.includes('@default')) throw new Error(`${table}.${field.name}: @default`);
  const defaults: Record<string, string> = {
    'now()': 'CURRENT_TIMESTAMP',
    'autoincrement()': `nextval('${table}_${columnName(field)}_seq'::regclass)`,
  };
  return `${type}${field.optional ? '' : ' not null'}${given === undefined ? '' : ` default ${defaults[given] ?? given}`}`;
}

function words(action: string): string {
  return action.replaceAll(/(?<=[a-z])([A-Z])/g, ' $1').toLowerCase();
}

/** Reads the catalog. Partial indexes and CHECK constraints, which schema.prisma cannot express, are left out. */
export async function tablesOfDatabase(connectionString: string): Promise<Record<string, Table>> {
  const tables: Record<string, Table> = {};
  const tableNamed = (name: string) => {
    tables[name] ??= { columns: {}, primaryKey: '', uniques: {}, indexes: {}, foreignKeys: {} };
    return tables[name];
  };
  const columns = await query<{ relname: string; attname: string; definition: string }>(
    connectionString,
    `SELECT c.relname, a.attname,
            format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
              || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '') AS definition
     FROM pg_class c
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
     LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
     WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND c.relname <> '_prisma_migrations'`,
  );
  for (const { relname, attname, definition } of columns) tableNamed(relname).columns[attname] = definition;
  const indexes = await query<{ relname: string; name: string; unique: boolean; primary: boolean; columns: string }>(
    connectionString,
    `SELECT c.relname, n.relname AS name, i.indisunique AS unique, i.indisprimary AS primary,
            (SELECT string_agg(pg_get_indexdef(i.indexrelid, k, true), ', ' ORDER BY k)
             FROM generate_series(1, i.indnkeyatts) k) AS columns
     FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_class n ON n.oid = i.indexrelid
     WHERE c.relnamespace = 'public'::regnamespace AND c.relname <> '_prisma_migrations' AND i.indpred IS NULL`,
  );
  for (const index of indexes) {
    const table = tableNamed(index.relname);
    if (index.primary) table.primaryKey = `${index.name} (${index.columns})`;
    else (index.unique ? table.uniques : table.indexes)[index.name] = index.columns;
  }
  const foreignKeys = await query<{ relname: string; conname: string; definition: string }>(
    connectionString,
    `SELECT c.relname, f.conname, pg_get_constraintdef(f.oid) AS definition
     FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid
     WHERE f.contype = 'f' AND f.connamespace = 'public'::regnamespace`,
  );
  for (const { relname, conname, definition } of foreignKeys) {
    // When a foreign key is checked, schema.prisma cannot say.
    const [, own, target, update, action] =
      /^FOREIGN KEY \((.*)\) REFERENCES (.*?\)) ON UPDATE (CASCADE) ON DELETE (.*?)( DEFERRABLE.*)?$/.exec(
        definition,
      ) ?? [];
    tableNamed(relname).foreignKeys[conname] =
      own === undefined
        ? definition
        : `${own} -> ${target} on delete ${action.toLowerCase()} on update ${update.toLowerCase()}`;
  }
  return tables;
}
