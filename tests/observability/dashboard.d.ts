// A dashboard as its JSON spells it, with Grafana's own types: an unknown field, a wrong word or a
// wrong type anywhere does not compile.
import type {
  AnnotationQuery,
  Dashboard,
  FieldConfig,
  FieldConfigSource,
  Panel,
  RowPanel,
  VariableModel,
} from "@grafana/schema";
import type * as heatmap from "@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen";
import type * as stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as timeseries from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

// An enumeration of strings is its strings.
type Json<T> = T extends string ? `${T}` : T extends object ? { [K in keyof T]: Json<T[K]> } : T;

interface Source {
  type: "prometheus";
  uid: "${datasource}";
}

// The Prometheus data source is a plugin, and its queries are not in the schema.
interface Query {
  datasource: Source;
  editorMode: "code";
  expr: string;
  format?: "time_series" | "table" | "heatmap";
  instant: boolean;
  legendFormat: string;
  range: boolean;
  refId: string;
}

// The schema lets a panel's own options be anything; each kind has types for them.
interface Drawn<Kind extends string, Options, Field> extends Omit<
  Panel,
  "datasource" | "description" | "fieldConfig" | "gridPos" | "id" | "options" | "targets" | "title" | "type"
> {
  datasource: Source;
  description: string;
  fieldConfig: Omit<FieldConfigSource, "defaults"> & {
    defaults: Omit<FieldConfig, "custom" | "unit"> & { custom?: Field; unit: string };
  };
  gridPos: { h: number; w: number; x: number; y: number };
  id: number;
  options: Options;
  targets: Query[];
  title: string;
  type: Kind;
}

interface Row extends Omit<RowPanel, "datasource" | "panels"> {
  panels: [];
}

interface Annotation extends Omit<AnnotationQuery, "datasource" | "target" | "type"> {
  datasource: Source;
  expr: string;
  step: string;
  titleFormat: string;
  useValueForTime: "on" | "off";
}

interface Variable extends Omit<VariableModel, "datasource"> {
  datasource?: Source;
}

export type PortholeDashboard = Json<
  Omit<Dashboard, "annotations" | "panels" | "templating" | "uid"> & {
    annotations: { list: Annotation[] };
    panels: Array<
      | Row
      | Drawn<"timeseries", timeseries.Options, timeseries.FieldConfig>
      | Drawn<"heatmap", heatmap.Options, heatmap.FieldConfig>
      | Drawn<"stat", stat.Options, Record<string, never>>
    >;
    templating: { list: Variable[] };
    uid: string;
  }
>;
