// What a dashboard's JSON has to be: Grafana's own types of dashboards and of the panels used, their enums as the strings JSON has.

import type { Dashboard as Board, Panel, RowPanel } from "grafana/index";
import type * as heatmap from "grafana/raw/composable/heatmap/panelcfg/x/types.gen";
import type * as stat from "grafana/raw/composable/stat/panelcfg/x/types.gen";
import type * as timeline from "grafana/raw/composable/statetimeline/panelcfg/x/types.gen";
import type * as timeseries from "grafana/raw/composable/timeseries/panelcfg/x/types.gen";

type Plain<T> = T extends string ? `${T}` : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
type Config<Custom> = Omit<NonNullable<Panel["fieldConfig"]>, "defaults"> & {
  defaults: Omit<NonNullable<Panel["fieldConfig"]>["defaults"], "custom"> & { custom?: Partial<Custom> };
};
type Kind<Name extends string, Options, Custom> = Omit<Panel, "type" | "options" | "fieldConfig"> & {
  type: Name;
  options: Partial<Options>;
  fieldConfig: Config<Custom>;
};
type Known =
  | Kind<"timeseries", timeseries.Options, timeseries.FieldConfig>
  | Kind<"stat", stat.Options, object>
  | Kind<"heatmap", heatmap.Options, heatmap.FieldConfig>
  | Kind<"state-timeline", timeline.Options, timeline.FieldConfig>
  | RowPanel;

export type Dashboard = Plain<Omit<Board, "panels"> & { panels: Known[] }>;
