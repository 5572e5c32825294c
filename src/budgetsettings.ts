import * as z from 'zod';
import { failedWith } from './errors.ts';
import { daysIn } from './usagedays.ts';

// What is asked of usage is trimmed too.
const text = z.string({ error: 'must be text' }).trim().min(1, { error: 'must not be empty' }).max(200);

const timeZone = text.refine(isTimeZone, {
  error: 'must be a time zone like "Europe/Berlin", or an offset of whole quarters of an hour like "+05:45"',
});

export const periods = ['day', 'week', 'month'] as const;

const positive = { error: 'must be more than 0' };

const budgetSchema = z
  .strictObject({
    name: text.max(60, { error: 'must have at most 60 characters' }).optional(),
    agent: text.optional(),
    model: text.optional(),
    trigger: text.optional(),
    per: z.enum(periods, { error: `must be one of ${periods.join(', ')}` }),
    dollars: z.number({ error: 'must be a number of dollars' }).positive(positive).optional(),
    tokens: z.int({ error: 'must be a whole number of tokens' }).positive(positive).optional(),
    tz: timeZone.optional(),
  })
  .refine(({ dollars, tokens }) => (dollars === undefined) !== (tokens === undefined), {
    error: 'must have either dollars or tokens',
  });

export type Budget = z.output<typeof budgetSchema>;

export const budgetsSchema = z
  .array(budgetSchema, { error: 'must be a list of budgets' })
  .max(100, { error: 'must hold at most 100 budgets' })
  .refine((budgets) => new Set(budgets.map((one) => JSON.stringify(one))).size === budgets.length, {
    error: 'must not hold one budget twice',
  })
  .default([])
  .describe(
    'What may be spent: `{"per": "day" | "week" | "month", "dollars" or "tokens", "agent", "model", "trigger", "name", "tz"}`, of all that is spent or of one agent, model or trigger. An alert goes out at 50, 80 and 100 %, and one when the pace would pass it. Days are those of `tz`, else of the machine that keeps the index.',
  );

function isTimeZone(name: string): boolean {
  try {
    daysIn(name);
    return true;
  } catch (error) {
    if (failedWith(error, 'invalid')) return false;
    throw error;
  }
}
