// Shows the form that Python describes, sets what is chosen, shows what Python answers. It decides nothing.

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// JupyterLab takes arrows, space and letters for its own shortcuts unless the focused element itself forbids it.
const input = (attributes) => element("input", { "data-lm-suppress-shortcuts": "true", ...attributes });

function set(model, name, value) {
  model.set(name, value);
  model.save_changes();
}

// Each field returns its elements and a function that brings them in line with the model.
const fields = {
  radio(model, { name, options }, id) {
    const inputs = options.map(([value]) => input({ type: "radio", name: id, value }));
    for (const each of inputs) each.addEventListener("change", () => set(model, name, each.value));
    const show = () => inputs.forEach((each) => (each.checked = each.value === model.get(name)));
    return [inputs.map((each, i) => labelled(each, options[i])), show];
  },

  checkbox(model, { name, options }) {
    const inputs = options.map(([value]) => input({ type: "checkbox", value }));
    const chosen = () => inputs.filter((each) => each.checked).map((each) => each.value);
    for (const each of inputs) each.addEventListener("change", () => set(model, name, chosen()));
    const show = () => inputs.forEach((each) => (each.checked = model.get(name).includes(each.value)));
    return [inputs.map((each, i) => labelled(each, options[i])), show];
  },

  percent(model, { name, options }, id) {
    const number = input({ type: "number", min: 0, max: 100, step: "any", "aria-describedby": `${id}-hint` });
    // An empty or unreadable field counts as 0, which Python refuses with a sentence.
    number.addEventListener("change", () => set(model, name, Number(number.value) / 100));
    const show = () => (number.value = Number((100 * model.get(name)).toPrecision(6)));
    const words = element("span", { class: "words" }, options[0][1]);
    return [[element("label", { class: "percent" }, words, " ", element("span", { class: "unit" }, number, " %"))], show];
  },
};

function labelled(node, [, words]) {
  return element("label", {}, node, element("span", { class: "words" }, words));
}

function attacks(model) {
  const possible = element("ul");
  const impossible = element("ul");
  const groups = [possible, impossible].map((list) => element("div", {}, element("p", { class: "title" }), list));
  const show = () => {
    const titles = new Map([["", []]]);
    for (const [title, reason] of model.get("attacks")) titles.set(reason, [...(titles.get(reason) ?? []), title]);
    const open = titles.get("");
    titles.delete("");
    const closed = model.get("attacks").length - open.length;
    groups[0].firstChild.textContent = `Attacks this attacker could try (${open.length})`;
    groups[1].firstChild.textContent = `Attacks out of their reach (${closed})`;
    possible.replaceChildren(...(open.length ? open : ["none"]).map((title) => element("li", {}, title)));
    impossible.replaceChildren(
      ...[...titles].map(([reason, names]) =>
        element("li", {}, names.join(", "), element("span", { class: "reason" }, reason)),
      ),
    );
    groups[1].hidden = closed === 0;
  };
  const note = element("p", { class: "hint" }, "Attacks out of reach are never run. Of the others, an audit may run only some.");
  return [element("div", { class: "attacks" }, ...groups, note), show];
}

function render({ model, el }) {
  // Names of radio groups hold for the whole page, and a page may show this form more than once.
  const scope = `threat-${Math.random().toString(36).slice(2)}`;
  el.classList.add("leakpro-threat-chooser");

  const form = element("div", { class: "form" });
  for (const group of model.get("_form")) {
    const id = `${scope}-${group.name}`;
    const [nodes, show] = fields[group.kind](model, group, id);
    const hint = element("p", { class: "hint", id: `${id}-hint` }, group.hint);
    const fieldset = element("fieldset", {}, element("legend", {}, group.question), ...nodes);
    if (group.hint) {
      fieldset.setAttribute("aria-describedby", hint.id);
      fieldset.append(hint);
    }
    form.append(fieldset);
    model.on(`change:${group.name}`, show);
    show();
  }

  const [list, showAttacks] = attacks(model);
  model.on("change:attacks", showAttacks);
  showAttacks();

  // They stand in the page from the start: screen readers announce changes of text, not new elements.
  const notice = element("p", { class: "notice", role: "status", "aria-live": "polite" });
  const problem = element("p", { class: "problem", role: "alert" });
  for (const [name, node] of [["_notice", notice], ["_problem", problem]]) {
    const show = () => (node.textContent = model.get(name));
    model.on(`change:${name}`, show);
    show();
  }
  form.append(problem);
  el.append(element("div", { class: "columns" }, form, list), notice);
}

export default { render };
