"""The study `never-hurt`: does any rule never fall below plain fine-tuning?"""
