// The console begins here: it learns who is there, and shows the view of the address.

import { h, signal } from "./core/reactive.js";
import { learn } from "./client/http.js";
import { link, problemLine } from "./parts/common.js";
import { askForKeys, listenForKeys, shell } from "./parts/shell.js";
import { approvalsView } from "./views/approvals.js";
import { branchesView, compareView, conversationView } from "./views/conversation.js";
import { keepView } from "./views/keep.js";
import { eventView, recordView } from "./views/record.js";
import { replaysView } from "./views/replays.js";
import { sessionsView } from "./views/sessions.js";
import { turnView } from "./views/turn.js";

const IN_SESSION = { record: recordView, branches: branchesView, keep: keepView };

const VIEWS = {
  sessions: (parts, query) => {
    const view = parts.length ? (IN_SESSION[parts[1]] ?? conversationView) : sessionsView;
    return view(parts, query);
  },
  turns: turnView,
  events: eventView,
  record: () => recordView([]),
  approvals: approvalsView,
  compare: compareView,
  replays: replaysView,
  nowhere: () => h("div.page", h("h1", "Nothing here"), h("p", "No view has this address. ", link(["sessions"], {}, "Sessions"))),
};

async function begin() {
  const problem = signal(null);
  document.body.replaceChildren();
  try {
    await learn();
    document.body.append(...shell(VIEWS));
  } catch (error) {
    problem.value = error;
    document.body.append(h("main", h("div.page", h("h1", "Manent"), problemLine(problem, begin))));
  }
}

askForKeys();
listenForKeys();
begin();
