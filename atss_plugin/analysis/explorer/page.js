// The explorer: what is chosen is in `state`; draw() shows it. Data: exploration.py and explorer_page.py.
'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const WORDS = {
  p: 'positive', b: 'below the threshold', o: 'centre outside the object', t: 'another object has it',
  i: 'ignored', n: 'not chosen',
};
const DOT = [5, 6.5, 8, 9.5, 11, 12, 13];  // diameter by level, px
const state = { image: 0, level: -1, selected: null, hovered: null, photo: true, sort: ['number', 1],
  panels: [0, Math.min(1, data.definitions.length - 1)].map(definition => ({ definition, k: 0 })) };
const byId = id => document.getElementById(id);
const panelOf = side => byId('panel' + side);
const part = (side, name) => panelOf(side).querySelector('.' + name);
const sides = data.definitions.length > 1 ? [0, 1] : [0];
const plain = text => String(text).replace(/&/g, '&amp;').replace(/</g, '&lt;');

// ---- what the data say -------------------------------------------------------------------------------------------

const image = () => data.images[state.image];
const definitionOf = side => data.definitions[state.panels[side].definition];
const resultOf = side => definitionOf(side).images[state.image];
const kIndex = side => resultOf(side).k[0] === null ? 0 : state.panels[side].k;
const colorOf = number => data.colors.objects[number % data.colors.objects.length];
const levelColor = level => data.colors.levels[level % data.colors.levels.length];
const sizeOf = number => { const [a, b, c, d] = image().boxes[number]; return Math.sqrt((c - a) * (d - b)); };

// The pairs that an object looks at under the k of a side: {row, iou, letter, level, number}
function pairsOf(side, number) {
  const result = resultOf(side), k = kIndex(side);
  return result.objects[number].pairs
    .map(([row, iou, letters]) => ({ row, iou, letter: letters[k], level: result.priors.level[row], number }))
    .filter(pair => pair.letter !== '.');
}

function positivesByLevel(side, number) {
  const counts = definitionOf(side).levels.map(() => 0);
  for (const pair of pairsOf(side, number)) if (pair.letter === 'p') counts[pair.level]++;
  return counts;
}

const sum = values => values.reduce((a, b) => a + b, 0);

function ownerOf(side, row) {
  return resultOf(side).objects.findIndex((_, number) => pairsOf(side, number).some(p => p.row === row && p.letter === 'p'));
}

function objectAt(x, y) {  // the smallest box that holds the point
  const held = image().boxes.map((b, number) => number)
    .filter(n => { const [a, b, c, d] = image().boxes[n]; return a <= x && x <= c && b <= y && y <= d; });
  return held.length ? held.reduce((a, b) => sizeOf(b) < sizeOf(a) ? b : a) : null;
}

// ---- the map -----------------------------------------------------------------------------------------------------

function outline(boxes) {
  const x = [], y = [];
  for (const [a, b, c, d] of boxes) { x.push(a, c, c, a, a, null); y.push(b, b, d, d, b, null); }
  return { x, y };
}

function line(name, boxes, color, width, extra = {}) {
  return { type: 'scatter', mode: 'lines', name, hoverinfo: 'skip', ...outline(boxes), line: { color, width, ...extra.line },
    opacity: extra.opacity || 1 };
}

function boxTraces(side) {
  const groups = new Map(), counts = image().boxes.map((_, number) => positivesByLevel(side, number));
  const wide = image().boxes.length > 30 ? 1.2 : 1.8;
  image().boxes.forEach((box, number) => {
    const here = state.level < 0 ? sum(counts[number]) : counts[number][state.level] || 0;
    const key = sum(counts[number]) === 0 ? data.colors.alarm : here ? colorOf(number) : data.colors.grey;
    groups.set(key, [...(groups.get(key) || []), box]);
  });
  const { alarm, grey } = data.colors, faded = state.selected === null ? 1 : 0.35;
  const traces = [...groups].map(([color, boxes]) => line(color === alarm ? 'unmatched' : 'boxes', boxes, color,
    color === alarm ? 2.4 : color === grey ? 0.8 : wide, { opacity: color === grey ? 0.4 : faded }));
  if (image().crowds.length) traces.unshift(line('crowds', image().crowds, data.colors.grey, 1, { line: { dash: 'dot' } }));
  return traces;
}

function describePair(side, pair) {
  const priors = resultOf(side).priors, { row } = pair;
  let word = WORDS[pair.letter];
  if (pair.letter === 't') word = `object #${ownerOf(side, row)} has it`;
  return `<b>${word}</b><br>#${pair.number} ${plain(image().classes[pair.number])}, IoU ${pair.iou.toFixed(3)}` +
    `<br>${definitionOf(side).levels[pair.level]}, anchor ${Math.round(priors.w[row])} × ${Math.round(priors.h[row])}` +
    ` at (${priors.x[row]}, ${priors.y[row]})`;
}

function dots(side, name, pairs, style) {
  const priors = resultOf(side).priors;
  return { type: 'scatter', mode: 'markers', name, hovertemplate: '%{text}<extra></extra>',
    x: pairs.map(p => priors.x[p.row]), y: pairs.map(p => priors.y[p.row]),
    text: pairs.map(p => describePair(side, p)), customdata: pairs.map(p => p.row),
    hoverlabel: { bgcolor: '#fff', bordercolor: '#888', font: { color: '#202020', size: 12 }, align: 'left' },
    marker: style(pairs) };
}

const diameters = pairs => pairs.map(p => DOT[Math.min(p.level, DOT.length - 1)]);
const filled = color => pairs => ({ size: diameters(pairs), opacity: 1, color: pairs.map(color), line: { color: '#fff', width: 0.8 } });
const rings = pairs => ({ size: diameters(pairs), opacity: 1, color: 'rgba(255,255,255,0.25)', line: { color: pairs.map(p => levelColor(p.level)), width: 1.4 } });

function mapTraces(side) {
  const onLevel = pair => state.level < 0 || pair.level === state.level;
  const chosen = state.selected;
  const numbers = chosen === null ? image().boxes.map((_, number) => number) : [chosen];
  const pairs = numbers.flatMap(number => pairsOf(side, number)).filter(onLevel);
  const traces = boxTraces(side);
  if (chosen !== null) {
    const matched = sum(positivesByLevel(side, chosen));
    traces.push(line('selected', [image().boxes[chosen]], matched ? '#111' : data.colors.alarm, 2.6));
    traces.push(dots(side, 'candidates', pairs.filter(p => p.letter !== 'p'), rings));
  }
  const color = chosen === null ? p => colorOf(p.number) : p => levelColor(p.level);
  traces.push(dots(side, 'positives', pairs.filter(p => p.letter === 'p'), filled(color)));
  traces.push(line('anchor', [], '#111', 1.5, { line: { dash: 'dash' } }));
  traces.push(line('pointed', [], '#444', 1.8));
  return traces;
}

function mapLayout() {
  const { width, height, source } = image();
  const axis = { showgrid: false, zeroline: false, showticklabels: false, ticks: '', constrain: 'domain' };
  return {
    margin: { l: 0, r: 0, t: 2, b: 2 }, showlegend: false, dragmode: 'pan', hovermode: 'closest', hoverdistance: 8,
    paper_bgcolor: '#fff', plot_bgcolor: '#fff', uirevision: state.image,
    xaxis: { ...axis, range: [0, width] }, yaxis: { ...axis, range: [height, 0], scaleanchor: 'x' },
    images: state.photo ? [{ source, x: 0, y: 0, sizex: width, sizey: height, xref: 'x', yref: 'y', xanchor: 'left',
      yanchor: 'top', sizing: 'stretch', layer: 'below', opacity: 0.55 }] : [],
    shapes: [{ type: 'rect', x0: 0, y0: 0, x1: width, y1: height, line: { color: '#d0d0d0', width: 1 }, layer: 'below' }],
  };
}

const CONFIG = { displaylogo: false, displayModeBar: false, scrollZoom: true, doubleClick: 'reset', responsive: true };

function mapHeight() {  // as wide as the panel allows while the chart still fits
  const full = part(0, 'map').clientWidth * image().height / image().width;
  return Math.round(Math.max(240, Math.min(full, window.innerHeight - 410)));
}

function drawMap(side) {
  const map = part(side, 'map');
  map.style.height = mapHeight() + 'px';
  const first = !map.data;
  Plotly.react(map, mapTraces(side), mapLayout(), CONFIG);
  if (first) listen(side, map);
}

// ---- the chart of an object --------------------------------------------------------------------------------------

function spread(pairs) {  // side by side within their level, by IoU
  const place = new Map();
  for (const level of new Set(pairs.map(p => p.level))) {
    const members = pairs.filter(p => p.level === level).sort((a, b) => b.iou - a.iou);
    members.forEach((p, i) => place.set(p.row, level + (members.length > 1 ? 0.7 * i / (members.length - 1) - 0.35 : 0)));
  }
  return pairs.map(p => place.get(p.row));
}

function chartTraces(side, pairs) {
  const place = spread(pairs);
  const part = (name, keep, style) => {
    const kept = pairs.filter(keep);
    const trace = dots(side, name, kept, style);
    trace.marker.size = 8;
    return { ...trace, x: place.filter((_, i) => keep(pairs[i])), y: kept.map(p => p.iou) };
  };
  return [part('candidates', p => p.letter !== 'p', rings), part('positives', p => p.letter === 'p', filled(p => levelColor(p.level)))];
}

function threshold(side, levels) {
  const statistics = resultOf(side).objects[state.selected].statistics;
  if (!statistics) return { shapes: [], annotations: [] };
  const [mean, , bound] = statistics[kIndex(side)];
  const at = (y, color, dash) => ({ type: 'line', x0: 0, x1: 1, xref: 'paper', y0: y, y1: y, line: { color, width: 1.4, dash } });
  const word = (y, color, text, yanchor) =>
    ({ x: 1, xref: 'paper', xanchor: 'right', y, yanchor, showarrow: false, text, font: { color, size: 12 }, bgcolor: 'rgba(255,255,255,0.75)' });
  return { shapes: [at(mean, data.colors.grey, 'dot'), at(bound, data.colors.alarm, 'solid')],
    annotations: [word(bound, data.colors.alarm, `mean + std = ${bound.toFixed(2)}`, 'bottom'), word(mean, data.colors.grey, `mean ${mean.toFixed(2)}`, 'top')] };
}

function drawChart(side) {
  const chart = part(side, 'chart'), facts = part(side, 'facts');
  chart.classList.toggle('empty', state.selected === null);
  if (state.selected === null) {
    if (chart.data) Plotly.purge(chart);
    chart.textContent = 'Click an object: the IoU of its candidates, and its threshold, are drawn here.';
    facts.textContent = '';
    return;
  }
  if (!chart.data) chart.textContent = '';
  const levels = definitionOf(side).levels, pairs = pairsOf(side, state.selected);
  const top = 1.12 * Math.max(0.3, ...sides.flatMap(s => pairsOf(s, state.selected)).map(p => p.iou));  // the same on both sides
  const first = !chart.data;
  Plotly.react(chart, chartTraces(side, pairs), {
    margin: { l: 44, r: 6, t: 6, b: 24 }, showlegend: false, hovermode: 'closest', dragmode: false, plot_bgcolor: '#fff',
    xaxis: { tickvals: levels.map((_, i) => i), ticktext: levels.map(plain), range: [-0.5, levels.length - 0.5], fixedrange: true, zeroline: false, showgrid: false },
    yaxis: { title: { text: 'IoU of the anchor', standoff: 4 }, range: [-0.02 * top, top], fixedrange: true, zeroline: false, gridcolor: '#eee' },
    ...threshold(side, levels) }, CONFIG);
  if (first) {
    chart.on('plotly_hover', event => showAnchor(side, event.points[0].customdata));
    chart.on('plotly_unhover', () => showAnchor(side, null));
  }
  writeFacts(side, pairs);
}

// ---- words -------------------------------------------------------------------------------------------------------

function spell(parent, parts) {  // text, ['b', text] or ['alarm', text]
  parent.replaceChildren(...parts.map(item => {
    if (typeof item === 'string') return document.createTextNode(item);
    const element = document.createElement('b');
    element.className = item[0] === 'alarm' ? 'alarm' : '';
    element.textContent = item[1];
    return element;
  }));
}

const count = (n, word, words = word + 's') => `${n} ${n === 1 ? word : words}`;

function levelsInWords(side, counts) {
  return counts.map((n, level) => n ? `${definitionOf(side).levels[level]} ${n}` : '').filter(Boolean).join(', ');
}

function writeFacts(side, pairs) {
  const number = state.selected, counts = positivesByLevel(side, number), positives = sum(counts);
  const statistics = resultOf(side).objects[number].statistics;
  const words = [`#${number} ${image().classes[number]}: `,
    positives ? ['b', count(positives, 'positive')] : ['alarm', 'no positive'],
    positives ? ` (${levelsInWords(side, counts)})` : ''];
  if (statistics) {
    const [mean, std, bound] = statistics[kIndex(side)];
    words.push(` of ${pairs.length} candidates; IoU mean `, ['b', mean.toFixed(3)], ', deviation ', ['b', std.toFixed(3)], ', threshold ', ['b', bound.toFixed(3)]);
    const others = [...'otin'].map(letter => [letter, pairs.filter(p => p.letter === letter).length]).filter(([, n]) => n);
    if (definitionOf(side).note) words.push(` (${definitionOf(side).note})`);
    if (others.length) words.push('. Above it but not positive: ' + others.map(([letter, n]) => `${n} (${WORDS[letter]})`).join(', '));
  } else if (positives) {
    const ious = pairs.map(p => p.iou);
    words.push(`; IoU from ${Math.min(...ious).toFixed(3)} to ${Math.max(...ious).toFixed(3)}; this definition does not report its candidates`);
  }
  spell(part(side, 'facts'), words);
}

function writeSummary(side) {
  const counts = image().boxes.map((_, number) => positivesByLevel(side, number));
  const perLevel = definitionOf(side).levels.map((_, level) => sum(counts.map(c => c[level])));
  const without = counts.filter(c => !sum(c)).length, ignored = resultOf(side).ignored[kIndex(side)];
  spell(part(side, 'summary'), [['b', count(sum(perLevel), 'positive')], `: ${levelsInWords(side, perLevel)}`,
    ...(without ? ['; ', ['alarm', `${without} of ${count(counts.length, 'object')} without any`]] : []), ...(ignored ? [`; ${count(ignored, 'anchor')} ignored`] : [])]);
}

function writeLegend(side) {
  const legend = part(side, 'legend'), levels = definitionOf(side).levels;
  const entry = (color, text, hollow) => {
    const item = document.createElement('span'), dot = document.createElement('i');
    dot.style.color = color;
    if (!hollow) dot.style.background = color;
    item.append(dot, text);
    return item;
  };
  if (state.selected !== null) {
    legend.replaceChildren(...levels.map((name, level) => entry(levelColor(level), name)), entry('#555', 'candidate that is not positive', true));
  } else {
    legend.replaceChildren(entry(colorOf(0), 'centre of a positive, in the colour of its object'), entry(data.colors.alarm, 'object without any positive', true));
  }
}

function writePointed(side) {
  const number = state.hovered;
  part(side, 'pointed').hidden = number === null;
  part(side, 'legend').hidden = number !== null;
  if (number === null) return;
  const [a, b, c, d] = image().boxes[number], counts = positivesByLevel(side, number);
  spell(part(side, 'pointed'), [`#${number} ${image().classes[number]}, ${Math.round(c - a)} × ${Math.round(d - b)} px: `,
    sum(counts) ? `${count(sum(counts), 'positive')} (${levelsInWords(side, counts)})` : ['alarm', 'no positive']]);
}

function fillList() {
  const totals = [0, 1].map(side => image().boxes.map((_, n) => sides.includes(side) ? sum(positivesByLevel(side, n)) : 0));
  const keys = { number: n => n, class: n => image().classes[n], size: sizeOf, 0: n => totals[0][n], 1: n => totals[1][n] };
  const [by, direction] = state.sort, key = keys[by];
  const order = image().boxes.map((_, n) => n).sort((a, b) => direction * (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0) || a - b);
  byId('objects').replaceChildren(...order.map(number => {
    const row = document.createElement('tr');
    row.dataset.number = number;
    row.setAttribute('aria-selected', number === state.selected);
    const words = [number, image().classes[number], Math.round(sizeOf(number)), totals[0][number], totals[1][number]];
    row.append(...words.map((word, column) => {
      const cell = document.createElement('td');
      cell.textContent = word;
      if (column === 1) cell.title = word;
      if (column > 2 && word === 0) cell.className = 'alarm';
      return cell;
    }));
    row.firstChild.style.setProperty('--object', colorOf(number));
    return row;
  }));
}

// ---- what the user does ------------------------------------------------------------------------------------------

function select(number) {
  state.selected = number === state.selected ? null : number;
  draw();
  const row = document.querySelector('tr[aria-selected="true"]');
  if (row) row.scrollIntoView({ block: 'nearest' });
}

function point(number) {
  if (number === state.hovered) return;
  state.hovered = number;
  for (const side of sides) {
    const map = part(side, 'map');
    restyle(map, 'pointed', number === null ? [] : [image().boxes[number]]);
    writePointed(side);
  }
}

function showAnchor(side, row) {
  const p = resultOf(side).priors;
  const box = row === null ? [] : [[p.x[row] - p.w[row] / 2, p.y[row] - p.h[row] / 2, p.x[row] + p.w[row] / 2, p.y[row] + p.h[row] / 2]];
  restyle(part(side, 'map'), 'anchor', box);
}

function restyle(map, name, boxes) {
  const { x, y } = outline(boxes), index = map.data.findIndex(trace => trace.name === name);
  Plotly.restyle(map, { x: [x], y: [y] }, [index]);
}

function place(map, event) {  // pixels of the image under the pointer
  const box = map.getBoundingClientRect(), { xaxis, yaxis } = map._fullLayout;
  const x = event.clientX - box.left - xaxis._offset, y = event.clientY - box.top - yaxis._offset;
  return x < 0 || y < 0 || x > xaxis._length || y > yaxis._length ? null : [xaxis.p2d(x), yaxis.p2d(y)];
}

function zoom() {  // to the chosen object, with as much again around it
  const [a, b, c, d] = image().boxes[state.selected], reach = Math.max(c - a, d - b, 16);
  const [x, y] = [(a + c) / 2, (b + d) / 2], map = part(0, 'map'), wide = reach * map.clientWidth / map.clientHeight;
  Plotly.relayout(map, { 'xaxis.range': [x - wide, x + wide], 'yaxis.range': [y + reach, y - reach] });
}

let pressed = null;

function listen(side, map) {
  map.addEventListener('pointerdown', event => { pressed = { map, x: event.clientX, y: event.clientY }; }, true);
  map.addEventListener('pointermove', event => { const at = place(map, event); point(at && objectAt(...at)); });
  map.addEventListener('pointerleave', () => point(null));
  map.on('plotly_hover', event => { if (event.points[0].customdata !== undefined) showAnchor(side, event.points[0].customdata); });
  map.on('plotly_unhover', () => showAnchor(side, null));
  map.on('plotly_relayout', change => follow(side, change));
}

// Plotly covers the page while a button is down, so only the window sees its release
window.addEventListener('pointerup', event => {
  const moved = pressed && Math.hypot(event.clientX - pressed.x, event.clientY - pressed.y);
  if (pressed && moved < 4 && event.button === 0) {
    const at = place(pressed.map, event);
    const number = at && objectAt(...at);
    if (number !== null) select(number);
  }
  pressed = null;
}, true);

let following = false;

function follow(side, change) {  // both maps show the same part of the image
  const ranges = Object.keys(change).some(key => /axis\.(range|autorange)/.test(key));
  if (following || !ranges || sides.length < 2) return;
  const { xaxis, yaxis } = part(side, 'map').layout;
  following = true;
  Plotly.relayout(part(1 - side, 'map'), { 'xaxis.range': [...xaxis.range], 'yaxis.range': [...yaxis.range] }).then(() => { following = false; });
}

// ---- controls ----------------------------------------------------------------------------------------------------

function options(select, words, value) {
  select.replaceChildren(...words.map((word, index) => new Option(word, index)));
  select.value = value;
}

function fillLevels() {
  const names = sides.map(side => definitionOf(side).levels).reduce((a, b) => a.length >= b.length ? a : b);
  if (state.level >= names.length) state.level = -1;
  const menu = byId('level');
  menu.replaceChildren(new Option('all levels', -1), ...names.map((name, index) => new Option(name, index)));
  menu.value = state.level;
}

function setDefinition(side, index) {
  state.panels[side].definition = index;
  const ks = resultOf(side).k, slider = part(side, 'slider');
  part(side, 'k').hidden = ks[0] === null;
  state.panels[side].k = Math.max(0, ks.indexOf(definitionOf(side).topk));
  slider.max = ks.length - 1;
  slider.value = state.panels[side].k;
  fillLevels();
}

function buildPanel(side) {
  panelOf(side).append(byId('panel').content.cloneNode(true));
  options(part(side, 'definition'), data.definitions.map(d => d.label), state.panels[side].definition);
  part(side, 'definition').onchange = event => { setDefinition(side, +event.target.value); draw(); };
  part(side, 'slider').oninput = event => { state.panels[side].k = +event.target.value; draw(); };
}

function draw() {
  for (const side of sides) {
    const ks = resultOf(side).k;
    panelOf(side).querySelector('output').textContent = ks[kIndex(side)];
    writeSummary(side);
    writePointed(side);
    writeLegend(side);
    drawMap(side);
    drawChart(side);
  }
  fillList();
  byId('clear').disabled = byId('zoom').disabled = state.selected === null;
}

function buildControls() {
  options(byId('image'), data.images.map(i => `${i.name} (${count(i.boxes.length, 'object')})`), 0);
  byId('image').onchange = event => { Object.assign(state, { image: +event.target.value, selected: null, hovered: null }); draw(); };
  byId('level').onchange = event => { state.level = +event.target.value; draw(); };
  byId('photo').onchange = event => { state.photo = event.target.checked; draw(); };
  byId('zoom').onclick = zoom;
  byId('clear').onclick = () => select(state.selected);
  byId('objects').onclick = event => { const row = event.target.closest('tr'); if (row) select(+row.dataset.number); };
  byId('objects').onmouseover = event => { const row = event.target.closest('tr'); if (row) point(+row.dataset.number); };
  byId('objects').onmouseleave = () => point(null);
  document.querySelectorAll('th').forEach(th => { th.onclick = () => {
    state.sort = [th.dataset.by, state.sort[0] === th.dataset.by ? -state.sort[1] : 1];
    fillList();
  }; });
  window.addEventListener('keydown', event => { if (event.key === 'Escape' && state.selected !== null) select(state.selected); });
  window.addEventListener('resize', () => sides.forEach(drawMap));
}

document.querySelector('main').classList.toggle('single', sides.length === 1);
buildControls();
sides.forEach(buildPanel);
sides.forEach(side => setDefinition(side, state.panels[side].definition));
draw();
