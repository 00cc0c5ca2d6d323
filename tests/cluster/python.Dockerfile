# Python alone, for Pods that tests talk to.
ARG BASE=python:3.13-slim
FROM ${BASE}
USER 65532:65532
