import { writeFileAtomically } from '../files.js'
import type { ReportData, ReportSource } from './data.js'
import { readReportData } from './data.js'
import { renderPage } from './page.js'

/** Writes the report of an output folder from its logs. */
export async function writeReport(
  path: string,
  source: ReportSource,
  where: Pick<ReportData, 'status' | 'message' | 'step' | 'totalSteps'>,
): Promise<void> {
  await writeFileAtomically(path, renderPage(await readReportData(source, where)))
}
