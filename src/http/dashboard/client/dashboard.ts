// Draws the charts from the tables that stand beside them, and helps with a form. Without it every page says the same
// in figures.
import { BarController, BarElement, CategoryScale, Chart, Legend, LinearScale, Tooltip } from 'chart.js';

Chart.register(BarController, BarElement, CategoryScale, LinearScale, Legend, Tooltip);

const dark = matchMedia('(prefers-color-scheme: dark)');
const still = matchMedia('(prefers-reduced-motion: reduce)');

interface Read {
  labels: string[];
  series: { name: string; values: number[] }[];
}

function read(table: HTMLTableElement): Read {
  const rows = [...table.tBodies].flatMap((body) => [...body.rows]).toReversed();
  const heads = [...table.querySelectorAll<HTMLElement>('thead [data-series]')];
  return {
    labels: rows.map((row) => row.querySelector<HTMLElement>('[data-label]')?.dataset['label'] ?? ''),
    series: heads.map((head, nth) => ({
      name: head.dataset['series'] ?? '',
      values: rows.map((row) =>
        Number(row.querySelectorAll<HTMLElement>('[data-value]')[nth]?.dataset['value'] ?? 0),
      ),
    })),
  };
}

function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

const dollars = new Intl.NumberFormat('en-US', {
  style: 'currency',
  currency: 'USD',
  minimumFractionDigits: 2,
  maximumFractionDigits: 4,
});
const axisDollars = new Intl.NumberFormat('en-US', {
  style: 'currency',
  currency: 'USD',
  notation: 'compact',
  maximumSignificantDigits: 3,
});
const counts = new Intl.NumberFormat('en-US');
const axisCounts = new Intl.NumberFormat('en-US', { notation: 'compact', maximumSignificantDigits: 3 });

/** `2026-11-23` → `23 Nov`; weeks and months as they are. */
function shortLabel(label: string): string {
  if (!/^\d{4}-\d\d-\d\d$/.test(label)) return label;
  return new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', timeZone: 'UTC' }).format(
    new Date(label),
  );
}

function draw(figure: HTMLElement): (() => void) | undefined {
  const table = figure.querySelector('table');
  if (table === null) return undefined;
  const { labels, series } = read(table);
  const money = figure.dataset['measure'] === 'cost';
  const full = (value: number) => (money ? dollars : counts).format(value);
  const place = document.createElement('div');
  place.className = 'plot';
  const canvas = document.createElement('canvas');
  canvas.setAttribute('role', 'img');
  canvas.setAttribute(
    'aria-label',
    `${figure.dataset['title'] ?? ''}: the same figures are in the table below.`,
  );
  place.append(canvas);
  const details = figure.querySelector('details');
  details?.before(place);
  details?.removeAttribute('open');
  let made: Chart | undefined;

  /** Anew each time: the colours are those of the page as it is now. */
  function paint(): void {
    const [text, line, card] = [colour('quiet'), colour('line'), colour('card')];
    const ticks = { color: text };
    made?.destroy();
    made = new Chart(canvas, {
      type: 'bar',
      data: {
        labels,
        datasets: series.map(({ name, values }, nth) => ({
          label: name,
          data: values,
          backgroundColor: colour(
            name === 'others' && nth === series.length - 1 ? 'series-others' : `series-${nth + 1}`,
          ),
          borderColor: card,
          borderWidth: { top: 1, right: 0, bottom: 0, left: 0 },
          borderSkipped: false,
        })),
      },
      options: {
        animation: still.matches ? false : { duration: 250 },
        maintainAspectRatio: false,
        color: text,
        font: { family: getComputedStyle(document.body).fontFamily },
        interaction: { mode: 'index', intersect: false },
        datasets: { bar: { categoryPercentage: 0.86, barPercentage: 0.96, maxBarThickness: 40 } },
        plugins: {
          legend: {
            display: series.length > 1,
            position: 'bottom',
            align: 'start',
            labels: { color: text, boxWidth: 10, boxHeight: 10, padding: 12 },
          },
          tooltip: {
            filter: (item) => item.parsed.y !== 0,
            callbacks: {
              label: (item) => `${item.dataset.label ?? ''}: ${full(item.parsed.y ?? 0)}`,
              footer: (items) =>
                items.length > 1
                  ? `Total: ${full(items.reduce((sum, item) => sum + (item.parsed.y ?? 0), 0))}`
                  : '',
            },
          },
        },
        scales: {
          x: {
            stacked: true,
            grid: { display: false },
            border: { color: line },
            ticks: {
              ...ticks,
              maxRotation: 0,
              autoSkipPadding: 12,
              callback: (_, nth) => shortLabel(labels[nth] ?? ''),
            },
          },
          y: {
            stacked: true,
            beginAtZero: true,
            grid: { color: line },
            border: { display: false },
            ticks: {
              ...ticks,
              maxTicksLimit: 5,
              callback: (value) => (money ? axisDollars : axisCounts).format(Number(value)),
            },
          },
        },
      },
    });
  }
  paint();
  // For whoever waits until it is drawn.
  figure.dataset['drawn'] = String(series.length);
  return paint;
}

const paints = [...document.querySelectorAll<HTMLElement>('figure.chart')].map(draw);
dark.addEventListener('change', () => {
  for (const paint of paints) paint?.();
});

/** Dates say more than a stretch of days that ends today: who chooses one of those wants no dates. */
for (const last of document.querySelectorAll<HTMLSelectElement>('form.filters select[name=last]')) {
  const dates = [...(last.form?.querySelectorAll<HTMLInputElement>('input[type=date]') ?? [])];
  last.addEventListener('change', () => {
    if (last.value !== '') for (const date of dates) date.value = '';
  });
}
