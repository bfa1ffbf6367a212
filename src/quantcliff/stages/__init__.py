"""In: a study. Out: a tidy table for each chapter; one module or package a stage, and no stage but the verdict knows
another.
"""
