/// <reference path="./raw.d.ts" />
/** Lines for the server's log, with the policy's and the object's name added. */
import { write } from "tidewaiter:policy/log@0.1.0";

export const debug = (message: string): void => write("debug", message);
export const info = (message: string): void => write("info", message);
export const warn = (message: string): void => write("warn", message);
export const error = (message: string): void => write("error", message);
